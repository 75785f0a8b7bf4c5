"""The leaderboard as it is printed."""

import numpy as np
import pytest

from kd.leaderboard import COSTS, print_leaderboard
from kdmodels.evaluation.correctness import Correctness
from tasks.references import Outcome, StudentReference
from tests.kd.conftest import NewStudent, Printed


@pytest.fixture
def costly(new_student: NewStudent) -> NewStudent:
    """Make a student with known costs."""

    def costly(variant: str, accuracy: float, parameters: int, p50: float, **fields: object) -> StudentReference:
        costs = {"cost/flops": 2e3 * parameters, "size/file_mb": 4e-6 * parameters, "cost/memory_mb": 0.5}
        metrics = costs | {"latency/p50_ms": p50}
        accuracies = (accuracy, accuracy + 0.01, accuracy + 0.03)
        return new_student(variant, *accuracies, parameters=parameters, metrics=metrics, **fields)

    return costly


def test_finished_students_have_figures_and_failed_students_an_error(
    outcome: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    print_leaderboard(outcome.students)
    result, _, titles, first, second, failed, tuning, costs, reused, error = capsys.readouterr().out.splitlines()
    assert result == (
        "result    kd is ahead of hard-labels by 5.00 points on the validation images "
        "(95 % interval over seeds -7.71 to 17.71), but not significantly."
    )
    assert " ".join(titles.split()) == "# variant validation % vs control (95 %) p (Holm)"
    assert first.split()[:2] == ["1", "kd"]
    assert "96.00 ± 2.83" in first
    # Differences of 4 and 6 points: t is 5, and with 1 degree of freedom p is 1 - 2 atan(5) / pi.
    assert "+5.00 (-7.71 to 17.71)  0.126" in first
    assert second.split() == ["2", "hard-labels", "91.00", "±", "1.41"]
    assert failed.split() == ["broken", "failed"]
    assert tuning == "tuning    untuned"
    assert costs == "students  1,210 parameters"
    assert reused == "reused    kd"
    assert error == "failed    broken: it diverged"


def test_a_note_names_intervals_that_the_corrected_p_value_does_not_confirm(
    new_student: NewStudent, capsys: pytest.CaptureFixture[str]
) -> None:
    control = new_student("hard-labels", 0.90, 0.90, 0.90)
    # Differences of 1, 2 and 3 points: t is 2 * sqrt(3) and p is 0.074.
    # Differences of 2, 3 and 4 points: t is 3 * sqrt(3) and p is 0.035. With Holm's correction, p is 0.070.
    small = new_student("hint", 0.91, 0.92, 0.93, control="hard-labels")
    larger = new_student("kd", 0.92, 0.93, 0.94, control="hard-labels")
    print_leaderboard([control, small, larger], details=True)
    out = capsys.readouterr().out
    assert (
        "note      kd: the interval excludes 0, but p is not below 0.05: p is corrected for all 2 comparisons, the "
        "interval is not\n"
    ) in out
    assert "but not significantly after Holm's correction." in out
    print_leaderboard([control, larger], details=True)
    assert "note " not in capsys.readouterr().out


def test_one_seed_has_neither_spread_nor_interval(new_student: NewStudent, capsys: pytest.CaptureFixture[str]) -> None:
    print_leaderboard([new_student("kd", 0.5)])
    assert capsys.readouterr().out.splitlines()[3].split() == ["1", "kd", "50.00"]


def test_equal_costs_are_one_line(costly: NewStudent, capsys: pytest.CaptureFixture[str]) -> None:
    print_leaderboard([costly("kd", 0.9, 60000, 0.51), costly("hint", 0.8, 60000, 0.4999)])
    assert capsys.readouterr().out.splitlines()[-1] == "students  60,000 parameters, 120 MFLOPs, 0.5 to 0.51 ms/image"


def test_different_costs_are_columns_and_the_best_trade_offs_are_named(
    costly: NewStudent, new_student: NewStudent, capsys: pytest.CaptureFixture[str]
) -> None:
    students = costly("small", 0.9, 9000, 0.5), costly("wide", 0.8, 60000, 12.3), new_student("old", 0.7)
    print_leaderboard(students)
    _, _, titles, small, wide, old, _, pareto = capsys.readouterr().out.splitlines()
    assert titles.split()[-3:] == ["parameters", "MFLOPs", "ms/image"]
    assert small.split()[-3:] == ["9,000", "18", "0.5"]
    assert wide.split()[-3:] == ["60,000", "120", "12.3"]
    assert old.split() == ["3", "old", "70.00", "1,210"]
    assert pareto == "pareto    small: no other is as accurate with as few parameters and FLOPs"


def test_costs_that_do_not_fit_into_the_terminal_are_left_out(costly: NewStudent, printed: Printed) -> None:
    students = [costly("kd-of-a-depthwise-net", 0.9, 9000, 0.5), costly("hard-labels", 0.8, 60000, 12.3)]
    wide, narrow = (printed(columns, print_leaderboard, students) for columns in (120, 70))
    (titles,) = [line for line in wide if "#" in line]
    assert titles.split()[-3:] == ["parameters", "MFLOPs", "ms/image"]
    start = narrow.index("")
    assert narrow[start + 1].split()[-1] == "parameters"
    assert [line.split()[1] for line in narrow[start + 2 : start + 4]] == ["kd-of-a-depthwise-net", "hard-labels"]


def test_details_add_a_table_over_examples_a_table_of_costs_and_a_legend(costly: NewStudent, printed: Printed) -> None:
    students = [costly("kd", 0.9, 9000, 0.5), costly("hard-labels", 0.8, 9000, 0.5)]
    outcomes = np.arange(300).reshape(3, 100) % 100 < 85
    right = {student.run_id: Correctness("split", outcomes) for student in students}
    lines = printed(100, print_leaderboard, students, right)
    assert not [line for line in lines if "over examples" in line]
    details = printed(100, print_leaderboard, students, right, details=True)
    assert details[: len(lines)] == lines
    blank, titles, first = details[len(lines) : len(lines) + 3]
    assert (blank, titles.split()[:2]) == ("", ["variant", "group"])
    assert "76.72 to 90.69" in first  # Wilson's interval of 85 of 100
    costs = next(line for line in details if "memory MB" in line)
    assert " ".join(costs.split()) == " ".join(["variant", *(column.title for column in COSTS)])
    assert any(line.startswith("legend    vs control (95 %), over seeds: t intervals") for line in details)


def test_tables_of_details_leave_out_columns_that_do_not_fit(costly: NewStudent, printed: Printed) -> None:
    students = [costly("hard-labels-equal-steps", 0.9, 9000, 0.5), costly("hard-labels", 0.8, 9000, 0.5)]
    outcomes = np.arange(300).reshape(3, 100) % 100 < 85
    right = {student.run_id: Correctness("split", outcomes) for student in students}
    lines = printed(80, print_leaderboard, students, right, details=True)
    evidence, costs = (number for number, line in enumerate(lines) if line.startswith("variant "))
    assert " ".join(lines[evidence].split()) == "variant group over examples vs control McNemar wins"
    assert " ".join(lines[costs].split()) == "variant parameters MFLOPs ms/image file MB pareto"
    for titles in (evidence, costs):  # no row takes two lines
        assert [line.split()[0] for line in lines[titles + 1 : titles + 3]] == [
            "hard-labels-equal-steps",
            "hard-labels",
        ]


@pytest.mark.parametrize(("no_color", "has_colour"), [("", True), ("1", False)])
def test_no_color_is_respected(
    outcome: Outcome,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_color: str,
    has_colour: bool,
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": no_color}.items():
        monkeypatch.setenv(name, value)
    print_leaderboard(outcome.students)
    red = "\x1b[31m"
    assert (red in capsys.readouterr().out) == has_colour
