"""`kd delete` on a real store: the chosen runs, what depends on them, and nothing else."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdmodels.errors import UserError
from tasks import tracking
from tasks.cleanup.delete import chosen_runs, delete, plan_deletion
from tasks.results import PLAN, ROWS
from tasks.tracking.tags import Tag


def ended(name: str, kind: str, parent: str | None = None, **params: object) -> str:
    run_id = tracking.start("digits", name, kind, key=f"key of {name}", parent=parent, params=params)
    tracking.end(run_id, "FINISHED")
    return run_id


def comparison(name: str, teacher: str, students: list[str]) -> str:
    """Record a comparison that reused a teacher and has these students in its leaderboard."""
    run_id = tracking.start("digits", name, "comparison")
    teacher_step = {"key": "key of teacher", "source": teacher}
    tracking.log_json(run_id, PLAN, {"members": [], "teacher": teacher_step, "students": [], "folds": []})
    tracking.log_json(run_id, ROWS, [{"run_id": student} for student in students])
    tracking.end(run_id, "FINISHED")
    return run_id


@pytest.fixture
def made(store: Path) -> dict[str, str]:
    """Two comparisons of one teacher. The second reused the control of the first."""
    teacher = ended("teacher", "teacher")
    control = ended("control", "student")
    kd = ended("kd", "student", teacher="key of teacher")
    first = comparison("first", teacher, [control, kd])
    second = comparison("second", teacher, [control])
    failed = ended("failed", "student", parent=second)
    return {"teacher": teacher, "control": control, "kd": kd, "first": first, "second": second, "failed": failed}


@pytest.mark.parametrize(
    ("chosen", "dependent"),
    [
        ("failed", set()),
        ("kd", {"first"}),
        ("first", set()),
        ("second", {"failed"}),
        ("control", {"first", "second", "failed"}),
        ("teacher", {"kd", "first", "second", "failed"}),
    ],
)
def test_what_depends_on_a_run_is_deleted_with_it(made: dict[str, str], chosen: str, dependent: set[str]) -> None:
    planned = plan_deletion(chosen_runs(made[chosen], None))
    assert {row.name for row in planned.runs} == {chosen, *dependent}
    assert [row.name for row in planned.runs if row.needs is None] == [chosen]
    assert planned.bytes == sum(tracking.run_bytes(made[row.name]) for row in planned.runs)

    delete([made[chosen]], planned)
    assert {run.name for run in tracking.every_run()} == made.keys() - {chosen, *dependent}
    assert tracking.marked_runs() == []


def test_an_experiment_is_deleted_whole(made: dict[str, str]) -> None:
    other = tracking.start("mnist", "other", "teacher")
    tracking.end(other, "FINISHED")
    chosen = chosen_runs(None, "digits")
    assert set(chosen) == set(made.values())
    delete(chosen, plan_deletion(chosen))
    assert [run.run_id for run in tracking.every_run()] == [other]
    with pytest.raises(UserError, match="experiment 'digits' has no runs"):
        chosen_runs(None, "digits")


def test_versions_of_models_are_deleted_with_their_run_or_comparison(made: dict[str, str]) -> None:
    client = MlflowClient()
    client.create_registered_model("mine")
    client.create_model_version("mine", f"runs:/{made['kd']}/model", run_id=made["kd"])
    client.create_model_version(
        "mine", f"runs:/{made['failed']}/model", run_id=made["failed"], tags={Tag.COMPARISON: made["first"]}
    )
    kept = client.create_model_version("mine", f"runs:/{made['control']}/model", run_id=made["control"])
    client.set_registered_model_alias("mine", "champion", "1")
    planned = plan_deletion([made["kd"]])
    assert [(each.model, each.version, each.aliases) for each in planned.versions] == [
        ("mine", 2, []),
        ("mine", 1, ["champion"]),
    ]
    delete([made["kd"]], planned)
    assert [version.version for version in tracking.versions("mine")] == [int(kept.version)]
    assert tracking.champion("mine") is None


def test_a_running_run_is_not_deleted(made: dict[str, str]) -> None:
    running = tracking.start("digits", "running", "student", params={"teacher": "key of teacher"})
    with pytest.raises(UserError, match=rf"run running \({running}\) has not ended; `kd cancel` stops it"):
        plan_deletion([made["teacher"]])
    assert {*made.values(), running} == {run.run_id for run in tracking.every_run()}


def test_a_deletion_is_planned_again_if_the_store_has_changed(made: dict[str, str]) -> None:
    planned = plan_deletion([made["kd"]])
    comparison("third", made["teacher"], [made["kd"]])
    with pytest.raises(UserError, match="run kd delete again"):
        delete([made["kd"]], planned)
    assert made["kd"] in {run.run_id for run in tracking.every_run()}


def test_a_run_of_another_program_is_not_deleted(store: Path) -> None:
    run_id = MlflowClient().create_run("0", run_name="foreign").info.run_id
    with pytest.raises(UserError, match=rf"run foreign \({run_id}\) was not made by kdflow"):
        chosen_runs(run_id, None)
