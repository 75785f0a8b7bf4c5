"""Who does a step of the plan, and from where an interrupted step continues."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdmodels.errors import DivergedError, UserError
from kdmodels.training import Replica
from tasks import tracking
from tasks.cleanup import leftovers
from tasks.execution import steps
from tasks.references import PlannedRun


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()


def step(**fields: object) -> PlannedRun:
    defaults = {"name": "kd", "kind": "student", "action": "train", "reason": "", "key": "c0ffee", "replicas": ""}
    return PlannedRun.model_validate(defaults | {"params": {}, "seeds": [0]} | fields)


def start_run(status: str | None, **fields: object) -> str:
    work = steps.StepWork(step(), leftovers.folder_of(step()))
    run_id = tracking.start(
        str(fields.get("experiment", "digits")),
        "kd",
        "student",
        key=str(fields.get("key", "c0ffee")),
        parent=str(fields["parent"]) if "parent" in fields else None,
        tags=work.claim(),
    )
    if status:
        tracking.end(run_id, status)  # type: ignore[arg-type]
    return run_id


def test_a_step_that_another_process_has_finished_is_not_done_again(store: None) -> None:
    run_id = start_run("FINISHED")
    with steps.begin_step(step(), "digits") as work:
        assert (work.finished, work.interrupted) == (run_id, None)
    with steps.begin_step(step(fresh=True), "digits") as work:
        assert (work.finished, work.interrupted) == (None, None)


def test_a_step_that_this_comparison_has_finished_is_not_done_again_even_if_fresh(
    store: None,
) -> None:
    """Regression: if a worker of Dask dies, Dask runs the finished tasks of this worker again."""
    parent = tracking.start("digits", "small", "comparison")
    run_id = start_run("FINISHED", parent=parent)
    with steps.begin_step(step(fresh=True), "digits", parent) as work:
        assert work.finished == run_id
    with steps.begin_step(step(fresh=True), "digits", "another") as work:
        assert work.finished is None


def test_an_interrupted_run_continues_unless_everything_is_trained_again(store: None) -> None:
    run_id = start_run("KILLED")
    with steps.begin_step(step(), "digits") as work:
        assert (work.finished, work.interrupted) == (None, run_id)
    with steps.begin_step(step(fresh=True), "digits") as work:
        assert work.interrupted is None
        assert not work.folder.exists()


def test_a_finished_step_does_not_continue(store: None) -> None:
    start_run("KILLED")
    with steps.begin_step(step(), "digits") as work:
        assert work.interrupted
    assert not work.folder.exists()
    assert leftovers.interrupted(step(), "digits") is None


def test_a_diverged_step_does_not_continue_and_other_failures_may(store: None) -> None:
    start_run("KILLED")
    for error, exists in ((UserError, True), (DivergedError, False)):
        with pytest.raises(error), steps.begin_step(step(), "digits") as work:
            raise error
        assert work.folder.exists() is exists


@pytest.mark.parametrize("word", [b"", b"' OR '", bytes(range(256))])
def test_a_claim_without_a_run_or_a_damaged_claim_has_no_run(store: None, word: bytes) -> None:
    """A process that dies before it creates its run leaves a claim without a run."""
    folder = leftovers.folder_of(step())
    steps.StepWork(step(), folder).claim()
    assert leftovers.interrupted(step(), "digits") is None
    run_id = start_run("KILLED")
    (folder / leftovers.CLAIM).write_bytes(word)
    assert leftovers.interrupted(step(), "digits") is None
    assert steps.StepWork(step(), folder).claim()[tracking.Tag.CLAIM] != tracking.get(run_id).tags[tracking.Tag.CLAIM]


def test_a_claim_that_cannot_be_written_is_a_warning(store: None) -> None:
    folder = leftovers.folder_of(step())
    folder.write_text("not a folder")
    ((tag, message),) = steps.StepWork(step(), folder).claim().items()
    assert tag == tracking.Tag.WARNING
    assert message.startswith(f"{folder}: a checkpoint can't be written: ")


@pytest.mark.parametrize("status", ["FAILED", None])
def test_a_failed_run_and_a_running_run_do_not_continue(store: None, status: str | None) -> None:
    start_run(status)
    assert leftovers.interrupted(step(), "digits") is None


def test_a_deleted_run_and_a_run_of_another_key_do_not_continue(store: None) -> None:
    start_run("KILLED", key="other")
    assert leftovers.interrupted(step(), "digits") is None
    MlflowClient().delete_run(start_run("KILLED"))
    assert leftovers.interrupted(step(), "digits") is None


def test_a_run_of_another_experiment_does_not_continue(store: None) -> None:
    digits = start_run("KILLED")
    assert leftovers.interrupted(step(), "mnist") is None
    mnist = start_run("KILLED", experiment="mnist")
    for experiment, run_id in (("digits", digits), ("mnist", mnist)):
        run = leftovers.interrupted(step(), experiment)
        assert run is not None
        assert run.run_id == run_id


def test_checkpoints_of_other_seeds_are_set_aside(store: None) -> None:
    """A run that extends 3 seeds to 5 trains 2 seeds. It used to read the checkpoint of an interrupted run of 5."""
    run_id = start_run(None)
    with steps.begin_step(step(), "digits") as work:
        five, two = (work.checkpoints(run_id, seeds) for seeds in (range(5), [3, 4]))
    five.keep(1, [Replica(seed) for seed in range(5)], [])
    five.flush()
    assert two.latest() is None
    assert "it belongs to another training" in tracking.get(run_id).tags[tracking.Tag.WARNING]


@pytest.mark.parametrize("word", ["soon", "-1", "inf", "nan"])
def test_a_wrong_interval_is_a_users_error(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_CHECKPOINT_SECONDS", word)
    message = f"^KD_CHECKPOINT_SECONDS: expected a number of seconds, got '{word}'. Allowed: 0 or more.$"
    with pytest.raises(UserError, match=message):
        steps.checkpoint_seconds()


def test_the_environment_sets_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KD_CHECKPOINT_SECONDS", raising=False)
    assert steps.checkpoint_seconds() == steps.CHECKPOINT_SECONDS
    monkeypatch.setenv("KD_CHECKPOINT_SECONDS", "2.5")
    assert steps.checkpoint_seconds() == 2.5


def test_a_folder_that_cannot_be_made_is_a_users_error(
    store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"can't be made: .*; allowed: .* by \$XDG_CACHE_HOME"):
        tracking.machine_folder("runs")
