"""The outcome of a run as it is printed, and its length."""

from collections.abc import Callable

import pytest

from kd.outcome import print_outcome
from tasks.references import Outcome
from tests.kd.conftest import NewStudent

Printed = Callable[..., list[str]]
VARIANTS = ["kd-temperature=4", "logit-regression", "label-smoothing", "kd-temperature=8", "dkd", "kd+hint", "hint"]


def test_the_verdict_comes_first_and_the_next_commands_last(
    outcome: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    print_outcome(outcome)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "verdict   kd replaces version 2.",
        "champion  models:/small-student/3",
        "test      kd 95.10 % (winner), hard-labels 90.00 %",
    ]
    assert "teacher   98.50 %, 50,826 parameters, 0.102 MFLOPs" in lines
    assert "note      the teacher has little to teach" in lines
    assert lines[-2:] == [
        "seconds   12.3",
        "next      kd report --open, kd compare --details, kd ui, kd predict small-student IMAGE...",
    ]
    print_outcome(outcome, details=True)
    assert "seconds   12.3 (start 10.0, data 2.3)" in capsys.readouterr().out.splitlines()


def test_the_command_that_shows_the_tuned_winner_is_among_the_next(
    outcome: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = [student.model_copy(update={"trials": 12, "run_id": "0123456789"}) for student in outcome.students]
    print_outcome(outcome.model_copy(update={"students": tuned}))
    expected = (
        "next      kd report --open, kd compare --details, kd show 01234567, kd ui, kd predict small-student IMAGE..."
    )
    assert capsys.readouterr().out.splitlines()[-1] == expected
    folds = [student.model_copy(update={"run_id": None}) for student in tuned]
    print_outcome(outcome.model_copy(update={"students": folds}))
    assert "kd show" not in capsys.readouterr().out


def test_a_long_line_is_broken_on_a_terminal_only(
    outcome: Outcome, capsys: pytest.CaptureFixture[str], printed: Printed
) -> None:
    verdict = outcome.verdict.model_copy(update={"reason": "word " * 100 + "end"})
    long = outcome.model_copy(update={"verdict": verdict})
    print_outcome(long)
    assert "word " * 100 + "end" in capsys.readouterr().out
    first, second, *_ = printed(80, print_outcome, long)
    assert (first, second) == ("verdict   " + "word " * 13 + "word", "          " + "word " * 13 + "word")


@pytest.mark.parametrize("control", ["hard-labels", "hard-labels-of-kd-of-a-wide-net"])
@pytest.mark.parametrize("costs", ["equal", "mixed"])
def test_eight_variants_take_at_most_25_lines_of_100_columns(
    outcome: Outcome, new_student: NewStudent, printed: Printed, costs: str, control: str
) -> None:
    students = []
    for number, variant in enumerate([*VARIANTS, control]):
        parameters = 1_234_567 - (90_000 * number if costs == "mixed" else 0)
        metrics = {"cost/flops": 240.0 * parameters, "latency/p50_ms": 1.23 + 0.01 * number}
        accuracies = [0.95 - 0.003 * number + noise for noise in (0.001 * number, 0.002, 0.03)]
        students.append(
            new_student(
                variant, *accuracies, control=control, parameters=parameters, metrics=metrics, reused=number % 2 == 0
            )
        )
    note = "the teacher (91.23 %) is no better on validation than hard-labels (91.30 %), which had none: do not expect "
    reason = "kd-temperature=4 is refused: test accuracy's lower 95% bound is 0.9312, required >= 0.95; the number of "
    verdict = outcome.verdict.model_copy(update={"reason": f"{reason}parameters is 1,234,567, required <= 60,000"})
    changes = {"students": students, "notes": [f"{note}it to teach much"], "verdict": verdict}
    lines = printed(100, print_outcome, outcome.model_copy(update=changes))
    assert len(lines) <= 25, "\n".join(lines)
    assert ("parameters" in lines[lines.index("") + 1]) == (costs == "mixed")
