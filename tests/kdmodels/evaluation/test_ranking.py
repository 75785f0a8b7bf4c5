"""The order of students and the winner."""

from kdmodels.evaluation.ranking import ranked, winner
from kdmodels.experiment.metrics import Metric
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


def test_another_metric_can_rank_in_either_direction() -> None:
    cost = Metric(name="mymetrics:cost", better="lower")
    scores = {"a": [1.0, 3.0], "b": [1.5, 1.5], "hard-labels": [9.0, 9.0]}
    rows = [student(name, [0.9, 0.9], scores={cost.name: values}, rank_by=cost) for name, values in scores.items()]
    assert [each.variant for each in ranked([*rows, failed("c")])] == ["b", "a", "hard-labels"]
    higher = [row.model_copy(update={"rank_by": Metric(name=cost.name)}) for row in rows]
    assert [each.variant for each in ranked(higher)] == ["hard-labels", "a", "b"]


def test_students_of_comparisons_with_other_metrics_are_ranked_by_accuracy() -> None:
    f1 = Metric(name="macro_f1")
    ranked_by_f1 = student("a", [0.8], scores={f1.name: [0.99]}, rank_by=f1)
    assert winner([ranked_by_f1, student("b", [0.9])]).variant == "b"  # type: ignore[union-attr]
