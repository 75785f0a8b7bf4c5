"""The plan as it is printed."""

from typing import Any

import pytest

from kd.plan import print_plan
from tasks.references import Plan, PlannedRun, Views


def step(name: str, kind: Any, **params: Any) -> PlannedRun:
    fields: dict[str, Any] = {"name": name, "kind": kind, "action": "train", "reason": "new", "params": params}
    return PlannedRun(**fields, key="", replicas="", seeds=[0])


@pytest.mark.parametrize(
    ("views", "line"),
    [
        (Views(count=1, reason="asked for"), "knowledge 1 view asked for"),
        (Views(count=12, reason="take 1MB"), "knowledge 12 views take 1MB"),
        (Views(count=0, reason="asked for"), "knowledge live teacher asked for"),
    ],
)
def test_a_plan_says_where_knowledge_comes_from(views: Views, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    teacher, control = step("teacher", "teacher"), step("hard-labels", "student")
    print_plan(Plan(teacher=teacher, knowledge=views, students=[control, step("kd", "student", teacher="key")]))
    assert capsys.readouterr().out.splitlines()[2].split() == line.split()
    print_plan(Plan(teacher=teacher, knowledge=views, students=[control]))
    assert "knowledge" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("params", "action"),
    [({"registry.model": "big"}, "load"), ({"checkpoint": "abc"}, "load"), ({"network.mlp": "[8]"}, "train")],
)
def test_a_plan_says_that_a_stored_teacher_is_loaded(
    params: dict[str, str], action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(teacher=step("teacher", "teacher", **params), knowledge=Views(count=1, reason=""), students=[])
    print_plan(plan)
    assert capsys.readouterr().out.splitlines()[1].split() == ["teacher", action, "new"]
    reused = plan.teacher.model_copy(update={"action": "reuse"})
    print_plan(plan.model_copy(update={"teacher": reused}))
    assert capsys.readouterr().out.splitlines()[1].split() == ["teacher", "reuse", "new"]


def test_a_plan_ends_with_the_notes_on_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    notes = ["2 images are in both splits"]
    print_plan(Plan(teacher=step("teacher", "teacher"), knowledge=Views(count=1, reason=""), students=[], notes=notes))
    assert capsys.readouterr().out.splitlines()[-1] == "data      2 images are in both splits"


def test_a_plan_names_the_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(teacher=step("teacher", "teacher"), knowledge=Views(count=1, reason=""), students=[])
    print_plan(plan)
    assert "runner" not in capsys.readouterr().out
    print_plan(plan.model_copy(update={"cluster": "ray, 2 workers on this machine"}))
    assert capsys.readouterr().out.splitlines()[-1] == "runner    ray, 2 workers on this machine"


def test_a_plan_counts_the_trials_of_searches(capsys: pytest.CaptureFixture[str]) -> None:
    search = step("kd tuning", "tuning").model_copy(update={"params": {"tune.trials": 12}})
    students = [step(name, "student").model_copy(update={"tuning": search}) for name in ("hard-labels", "kd")]
    reused = search.model_copy(update={"action": "reuse"})
    plan = Plan(teacher=step("teacher", "teacher"), knowledge=Views(count=1, reason=""), students=students)
    print_plan(plan)
    assert capsys.readouterr().out.splitlines()[-1] == "tuning    24 trials for 2 variants"
    print_plan(plan.model_copy(update={"students": [students[0], students[1].model_copy(update={"tuning": reused})]}))
    assert capsys.readouterr().out.splitlines()[-1] == "tuning    12 trials for 1 variant; 1 search is reused"
    print_plan(plan.model_copy(update={"students": []}))
    assert "tuning" not in capsys.readouterr().out
