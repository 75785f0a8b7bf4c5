"""What must stay, in a real store of runs that nothing trained."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tasks import tracking
from tasks.needs import in_use, needed

DAY = 86_400_000
SINCE = 100 * DAY


@pytest.fixture(autouse=True)
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()


def made(name: str, kind: str, ended: int | None, **given: Any) -> str:
    """A run that ended on that day, or has not."""
    run_id = tracking.start("digits", name, kind, **given)
    if ended is not None:
        MlflowClient().set_terminated(run_id, "FINISHED", ended * DAY)
        database = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
        with closing(sqlite3.connect(database)) as connection, connection:  # MLflow changes no start
            connection.execute("UPDATE runs SET start_time = ? WHERE run_uuid = ?", (ended * DAY, run_id))
    return run_id


def comparison(name: str, ended: int | None, **steps: str | None) -> str:
    """With a plan that takes these over, or that does what has these keys."""
    run_id = made(name, "comparison", ended)
    planned = {name: {"key": f"key of {name}", "source": source} for name, source in steps.items()}
    plan = {"members": [], "teacher": planned.pop("teacher", {"key": "none", "source": None})}
    tracking.log_json(run_id, "plan.json", plan | {"students": list(planned.values())})
    return run_id


def compared(run_id: str, *students: str) -> None:
    tracking.log_json(run_id, "leaderboard.json", [{"variant": "x", "run_id": student} for student in students])


def student(parent: str, ended: int, teacher: str | None = None, name: str = "kd") -> str:
    params = {"teacher": teacher} if teacher else {}
    return made(name, "student", ended, parent=parent, params=params, key=f"key of {name}")


def teacher(parent: str, ended: int, key: str = "t", **given: Any) -> str:
    return made("teacher", "teacher", ended, parent=parent, key=key, **given)


def kept(*registered: str) -> set[str]:
    return needed(tracking.every_run(), registered, SINCE)


def test_all_that_ended_before_goes_and_what_ends_later_or_never_stays() -> None:
    old = comparison("old", 99)
    for run_id in (student(old, 99), teacher(old, 99)):
        compared(old, run_id)
    young, unended = comparison("young", 100), comparison("unended", None)
    assert kept() == {young, unended}


def test_a_registered_student_keeps_its_teacher_its_rivals_and_its_comparison() -> None:
    first = comparison("first", 1)
    taught, control = student(first, 1, "t"), student(first, 1, name="hard-labels")
    needs = {first, taught, control, teacher(first, 1)}
    compared(first, taught, control)
    again, last = comparison("again", 2), comparison("last", 3)
    rival = student(last, 3, "t", "hint")
    compared(again, taught)
    compared(last, taught, control, rival)
    other = comparison("other", 4)
    compared(other, student(other, 4, "t"))
    assert kept(taught) == needs | {last, rival}  # in `again` it was only compared
    assert kept() == set()


def test_a_registered_teacher_keeps_the_members_of_its_ensemble() -> None:
    first, second = comparison("first", 1), comparison("second", 2)
    members = [teacher(first, 1, key) for key in ("a", "b")]
    teacher(first, 1, "c")
    ensemble = teacher(second, 2, "e", tags={"kd.members": json.dumps(members)})
    assert kept(ensemble) == {ensemble, *members, first, second}


def test_with_cross_validation_the_students_and_teachers_of_all_folds_stay() -> None:
    old = comparison("old", 1)
    students = [student(old, 1, name=f"kd {fold}/2") for fold in (1, 2)]
    teachers = [teacher(old, 1, key) for key in ("t1", "t2")]
    student(old, 1, name="hint 1/2")
    young = comparison("young", 100, teacher=teachers[0])
    plan = tracking.read_json(young, "plan.json")
    fold = {"members": [], "teacher": {"key": "t2", "source": teachers[1]}, "students": []}
    tracking.log_json(young, "plan.json", plan | {"folds": [fold]})
    tracking.log_json(young, "leaderboard.json", [{"variant": "kd", "run_id": students[0], "folds": students}])
    assert kept() == {young, *students, *teachers, old}


def test_a_younger_comparison_keeps_what_it_took_over_but_not_all_that_stood_beside_it() -> None:
    old = comparison("old", 1)
    reused, beside, by = student(old, 1, "t"), student(old, 1, "t", "hint"), teacher(old, 1)
    compared(old, reused, beside)
    twice = teacher(old, 2, "u")  # the teacher of the young one, who was taken over, but in whose name none was taught
    young = comparison("young", 100, teacher=twice)
    compared(young, reused)
    assert kept() == {young, reused, by, twice, old}
    assert beside not in kept()


def test_of_two_equal_teachers_the_one_that_a_run_would_take_over_stays() -> None:
    old = comparison("old", 1)
    teacher(old, 1)
    newer = teacher(old, 2)
    lone = student(old, 100, "t")
    assert kept() == {old, newer, lone}


def test_what_is_going_on_keeps_all_that_it_may_still_take_over() -> None:
    old = comparison("old", 1)
    source, same, other = (student(old, 1, name=name) for name in ("kd", "hint", "rkd"))
    by = teacher(old, 1)
    going = comparison("going", None, teacher=by, kd=source, hint=None)
    assert kept() == {going, old, by, source, same}
    assert in_use(tracking.every_run()) == {by, source, same}
    tracking.end(going, "KILLED")
    assert in_use(tracking.every_run()) == set()
    assert other not in kept()


def test_what_was_marked_as_deleted_is_followed_too_and_comes_second() -> None:
    old = comparison("old", 1)
    by = teacher(old, 1)
    marked = teacher(old, 2)
    lone = student(old, 100, "t")
    MlflowClient().delete_run(marked)
    runs = [*tracking.every_run(), *tracking.marked_runs()]
    assert needed(runs, [], SINCE) == {old, by, lone}
    assert needed(runs, [marked], SINCE) == {old, by, lone, marked}
