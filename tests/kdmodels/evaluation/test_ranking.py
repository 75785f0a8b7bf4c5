"""The order of students and the winner."""

from kdmodels.evaluation.ranking import ranked, winner
from kdmodels.run_status import RunStatus
from tests.support.students import CONTROL, KD, failed, student


def test_no_students_have_no_winner() -> None:
    assert ranked([]) == []
    assert winner([]) is None


def test_the_winner_is_a_finished_student() -> None:
    best = student("kd+hint", [0.99], status=RunStatus.KILLED)
    assert winner([CONTROL, best, KD]) is KD
    assert winner([failed("a"), best]) is None


def test_a_tie_goes_to_fewer_parameters_then_the_control_then_the_file() -> None:
    # The same three figures in another order: their float means differ in the last bit.
    first, second = student("b", [0.1, 0.2, 0.3]), student("a", [0.3, 0.2, 0.1])
    assert first.metrics != second.metrics
    control, small = student("hard-labels", [0.2, 0.3, 0.1]), student("small", [0.2, 0.1, 0.3], parameters=99)
    assert winner([first, second, control, small]) is small
    assert winner([first, second, control]) is control
    assert winner([first, second]) is first
    assert [each.variant for each in ranked([first, second, control, small])] == ["small", "hard-labels", "b", "a"]
