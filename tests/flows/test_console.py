"""What is printed: stdout and stderr as they are, without a terminal."""

import json
from typing import Any

import pytest

from flows.console import (
    print_classes,
    print_fields,
    print_json,
    print_leaderboard,
    print_outcome,
    print_plan,
    print_table,
)
from tasks.references import Outcome, Plan, Step, StudentReference, TeacherReference, VerdictReference, Views


def student(variant: str, *accuracies: float, **more: Any) -> StudentReference:
    fields: dict[str, Any] = {
        "variant": variant,
        "run_id": f"run-{variant}",
        "status": "FINISHED",
        "reused": False,
        "seeds": list(range(len(accuracies))),
        "metrics": {"val/accuracy": sum(accuracies) / len(accuracies)} if accuracies else {},
        "per_seed": {"val/accuracy": list(accuracies)},
        "parameters": 1210,
    }
    return StudentReference(**fields | more)


STUDENTS = [
    student("hard-labels", 0.90, 0.92),
    student("kd", 0.94, 0.98, reused=True),
    student("broken", status="FAILED", parameters=None, error="it diverged"),
]
OUTCOME = Outcome(
    experiment="small",
    parent_run_id="p",
    teacher=TeacherReference(
        run_id="t",
        reused=True,
        metrics={"val/accuracy": 0.985, "size/parameters": 50826, "cost/flops": 101632.0},
    ),
    students=STUDENTS,
    notes=["the teacher has little to teach"],
    verdict=VerdictReference(
        promoted=True,
        already_champion=False,
        accepted=True,
        model="small-student",
        version=3,
        reason="kd replaces version 2.",
        winner="kd",
        evidence={},
        test_accuracy={"kd": 0.951, "hard-labels": 0.9},
    ),
    seconds={"total": 12.34, "start": 10.0, "data": 2.34},
)


def test_the_leaderboard_has_the_figures_of_the_finished_and_the_errors_of_the_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_leaderboard([row.model_dump(mode="json") for row in STUDENTS])
    _, first, second, failed, level, costs, error = capsys.readouterr().out.splitlines()
    # Two values 0.04 apart: deviation sqrt(8) / 100, half an interval t(0.975, 1) / 50 = 25.4124 points.
    assert first.split()[:2] == ["1", "kd"]
    assert "96.00 ± 2.83 %" in first
    assert "70.59 to 100.00" in first
    # Differences of 4 and 6 points: t is 5, and with 1 degree of freedom p is 1 - 2 atan(5) / pi.
    assert "+5.00 (-7.71 to +17.71)  0.126" in first
    assert first.split()[-1] == "reused"
    assert "91.00 ± 1.41 %" in second
    assert second.split()[-1] == "trained"
    assert level == "indistinguishable from kd (paired t tests over seeds, Holm, 5 %): hard-labels"
    assert costs == "each: 1,210 parameters"
    assert failed.split() == ["broken", "failed"]
    assert error == "broken: it diverged"


def test_one_seed_has_neither_spread_nor_interval(capsys: pytest.CaptureFixture[str]) -> None:
    print_leaderboard([student("kd", 0.5).model_dump(mode="json")])
    assert capsys.readouterr().out.splitlines()[1].split() == ["1", "kd", "50.00", "%", "trained"]


def costly(variant: str, accuracy: float, parameters: int, p50: float) -> StudentReference:
    costs = {"cost/flops": 2e3 * parameters, "size/file_mb": 4e-6 * parameters, "cost/memory_mb": 0.5}
    metrics = {"val/accuracy": accuracy, **costs, "latency/p50_ms": p50}
    return student(variant, accuracy, parameters=parameters, metrics=metrics)


def test_students_alike_have_their_costs_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [costly("kd", 0.9, 60000, 0.51), costly("hint", 0.8, 60000, 0.4999)]
    print_leaderboard([row.model_dump(mode="json") for row in rows])
    assert capsys.readouterr().out.splitlines()[-1] == (
        "each: 60,000 parameters, 0.24 MB on disk, 120 MFLOPs, 0.5 MB of memory, "
        "0.5 to 0.51 ms for one image on the CPU"
    )


def test_students_that_differ_have_a_table_of_costs_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, big = costly("kd-of-a-depthwise-net", 0.9, 9000, 0.5), costly("wide", 0.8, 60000, 12.3)
    old = student("old", 0.7, parameters=60000)
    print_leaderboard([row.model_dump(mode="json") for row in (small, big, old)])
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("") + 1 :]
    assert " ".join(table[0].split()) == "variant validation parameters file MB MFLOPs p50 ms pareto"
    assert table[1].split() == ["kd-of-a-depthwise-net", "90.00", "%", "9,000", "0.036", "18", "0.5", "*"]
    assert table[2].split() == ["wide", "80.00", "%", "60,000", "0.24", "120", "12.3"]
    assert table[3].split() == ["old", "70.00", "%", "60,000"]
    assert table[4].startswith("* no other is as accurate with as few parameters and FLOPs")
    assert all(len(line.rstrip()) <= 80 for line in table[:4])


def test_the_outcome_ends_with_the_verdict_the_seconds_and_the_next_steps(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(OUTCOME)
    lines = capsys.readouterr().out.splitlines()
    assert "teacher: 98.50 %, 50,826 parameters, 0.102 MFLOPs" in lines
    assert "test        kd 95.10 % (winner), hard-labels 90.00 %" in lines
    assert "note        the teacher has little to teach" in lines
    assert "verdict     kd replaces version 2." in lines
    assert "champion    models:/small-student/3" in lines
    assert "seconds     12.3 (start 10.0, data 2.3)" in lines
    assert lines[-1].split() == ["kd", "predict", "small-student", "IMAGE...", "by", "models:/small-student@champion"]


def test_a_long_line_is_not_broken_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = OUTCOME.verdict.model_copy(update={"reason": "word " * 100 + "end"})
    print_outcome(OUTCOME.model_copy(update={"verdict": verdict}))
    assert "word " * 100 + "end" in capsys.readouterr().out


def test_what_is_not_a_finite_number_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "bound": float("inf"), "accuracy": 0.5})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "bound": None, "accuracy": 0.5}


def test_markup_in_a_value_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"name": "[bold]kd[/bold]", "ok": None}, {"name": "x", "ok": False}], {"name": "name", "ok": "ok"})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "ok"],
        ["[bold]kd[/bold]"],
        ["x", "no"],
    ]


def test_fields_are_nested_lines_and_what_is_empty_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"run_id": "a", "error": None, "params": {"lr": 0.5}, "seeds": [{"seed": 0, "epoch": 3}], "tags": {}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["run_id", "a"], ["params"], ["lr", "0.5000"], ["seeds"], ["seed", "epoch"], ["0", "3"]]


def test_of_many_classes_the_first_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"class": f"c{number}", "accuracy": number / 100} for number in range(30)]
    print_classes(rows)
    title, columns, *lines = capsys.readouterr().out.splitlines()
    assert title == "classes on validation (the least accurate 20 of 30)"
    assert columns.split() == ["class", "accuracy"]
    assert [line.split()[0] for line in lines] == [f"c{number}" for number in range(20)]
    print_classes(rows[:3])
    assert capsys.readouterr().out.splitlines()[0] == "classes on validation"
    print_classes([])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_is_respected(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": no_color}.items():
        monkeypatch.setenv(name, value)
    print_leaderboard([STUDENTS[2].model_dump(mode="json")])
    red = "\x1b[31m"
    assert (red in capsys.readouterr().out) == coloured


@pytest.mark.parametrize(
    ("views", "told"),
    [
        (Views(count=1, reason="asked for"), "knowledge    1 view        asked for"),
        (Views(count=12, reason="take 1MB"), "knowledge    12 views      take 1MB"),
        (Views(count=0, reason="asked for"), "knowledge    live teacher  asked for"),
    ],
)
def test_a_plan_says_where_knowledge_comes_from(views: Views, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    def step(name: str, kind: Any, **params: Any) -> Step:
        return Step(name=name, kind=kind, action="train", reason="new", key="", replicas="", params=params, seeds=[0])

    teacher, control = step("teacher", "teacher"), step("hard-labels", "student")
    print_plan(Plan(teacher=teacher, knowledge=views, students=[control, step("kd", "student", teacher="key")]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == told.split()
    print_plan(Plan(teacher=teacher, knowledge=views, students=[control]))
    assert "knowledge" not in capsys.readouterr().out
