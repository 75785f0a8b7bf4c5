"""Which runs are needed, in a real store with runs that were not trained."""

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
from tasks.cleanup.needs import dependents, in_use, needed

DAY = 86_400_000
SINCE = 100 * DAY


@pytest.fixture(autouse=True)
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()


def made(name: str, kind: str, ended: int | None, **given: Any) -> str:
    """Create a run that ended on a day, or is running."""
    run_id = tracking.start("digits", name, kind, **given)
    if ended is not None:
        MlflowClient().set_terminated(run_id, "FINISHED", ended * DAY)
        database = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
        with closing(sqlite3.connect(database)) as connection, connection:  # MLflow changes no start
            connection.execute("UPDATE runs SET start_time = ? WHERE run_uuid = ?", (ended * DAY, run_id))
    return run_id


def comparison(name: str, ended: int | None, **steps: str | None) -> str:
    """Create a comparison whose plan reuses the given runs, or trains if there is none."""
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


def test_runs_that_ended_before_are_not_needed() -> None:
    old = comparison("old", 99)
    for run_id in (student(old, 99), teacher(old, 99)):
        compared(old, run_id)
    young, unended = comparison("young", 100), comparison("unended", None)
    assert kept() == {young, unended}


def test_a_registered_student_needs_its_comparison_and_all_runs_in_it() -> None:
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


def test_a_registered_teacher_needs_the_members_of_its_ensemble() -> None:
    first, second = comparison("first", 1), comparison("second", 2)
    members = [teacher(first, 1, key) for key in ("a", "b")]
    teacher(first, 1, "c")
    ensemble = teacher(second, 2, "e", tags={"kd.members": json.dumps(members)})
    assert kept(ensemble) == {ensemble, *members, first, second}


def test_cross_validation_needs_the_runs_of_all_folds() -> None:
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


def test_a_newer_comparison_needs_the_runs_that_it_reused_only() -> None:
    old = comparison("old", 1)
    reused, beside, by = student(old, 1, "t"), student(old, 1, "t", "hint"), teacher(old, 1)
    compared(old, reused, beside)
    twice = teacher(old, 2, "u")  # the teacher of the young one, who was taken over, but in whose name none was taught
    young = comparison("young", 100, teacher=twice)
    compared(young, reused)
    assert kept() == {young, reused, by, twice, old}
    assert beside not in kept()


def test_of_two_equal_teachers_the_reusable_one_is_kept() -> None:
    old = comparison("old", 1)
    teacher(old, 1)
    newer = teacher(old, 2)
    lone = student(old, 100, "t")
    assert kept() == {old, newer, lone}


def test_a_running_comparison_needs_all_runs_that_it_may_reuse() -> None:
    old = comparison("old", 1)
    source, same, other = (student(old, 1, name=name) for name in ("kd", "hint", "rkd"))
    by = teacher(old, 1)
    going = comparison("going", None, teacher=by, kd=source, hint=None)
    assert kept() == {going, old, by, source, same}
    assert in_use(tracking.every_run()) == {by, source, same}
    tracking.end(going, "KILLED")
    assert in_use(tracking.every_run()) == set()
    assert other not in kept()


def test_a_student_needs_the_search_for_its_hyperparameters() -> None:
    old = comparison("old", 1)
    search, other = (made(name, "tuning", 1, parent=old, key=name) for name in ("kd tuning", "hint tuning"))
    tuned = made("kd", "student", 100, parent=old, tags={"kd.tuning": search})
    assert kept() == {old, search, tuned}
    going = comparison("going", None, hint=None)
    plan = tracking.read_json(going, "plan.json")
    plan["students"][0]["tuning"] = {"key": "hint tuning", "source": None}
    tracking.log_json(going, "plan.json", plan)
    assert in_use(tracking.every_run()) == {other}


def test_runs_marked_as_deleted_count_after_the_others() -> None:
    old = comparison("old", 1)
    by = teacher(old, 1)
    marked = teacher(old, 2)
    lone = student(old, 100, "t")
    MlflowClient().delete_run(marked)
    runs = [*tracking.every_run(), *tracking.marked_runs()]
    assert needed(runs, [], SINCE) == {old, by, lone}
    assert needed(runs, [marked], SINCE) == {old, by, lone, marked}


def test_stored_data_are_needed_while_any_comparison_runs() -> None:
    holder = made("holder", "comparison", 1, tags={tracking.Tag.STORED_DATA: "{}"})
    assert kept() == set()
    running = comparison("running", None)
    assert kept() == {holder, running}
    assert dependents(tracking.every_run(), [holder]) == {running: holder}
