"""One step at a time: who does it, and from where it goes on."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdmodels.errors import DivergedError, UserError
from kdmodels.training import Replica
from tasks import interruption, leftovers, steps, tracking
from tasks.references import Step


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()


@pytest.fixture(autouse=True)
def nobody_stopped() -> None:
    interruption.reset()


def step(**given: object) -> Step:
    known = {"name": "kd", "kind": "student", "action": "train", "reason": "", "key": "c0ffee", "replicas": ""}
    return Step.model_validate(known | {"params": {}, "seeds": [0]} | given)


def started(status: str | None, **given: object) -> str:
    work = steps.Begun(step(), leftovers.folder_of(step()))
    run_id = tracking.start(
        str(given.get("experiment", "digits")),
        "kd",
        "student",
        key=str(given.get("key", "c0ffee")),
        tags=work.claim(),
    )
    if status:
        tracking.end(run_id, status)  # type: ignore[arg-type]
    return run_id


def test_others_wait_until_a_step_is_done(store: None) -> None:
    order = []

    def second() -> None:
        with steps.alone("a"):
            order.append("second")

    with steps.alone("a"):
        thread = threading.Thread(target=second)
        thread.start()
        with steps.alone("b"):  # nobody else's
            time.sleep(0.5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert list(tracking.machine_folder("locks").iterdir()) == []


def test_a_stop_reaches_who_waits(store: None) -> None:
    told = []

    def waits() -> None:
        try:
            with steps.alone("a"):
                told.append("done")
        except KeyboardInterrupt:
            told.append("interrupted")

    with steps.alone("a"):
        thread = threading.Thread(target=waits)
        thread.start()
        interruption.stop()
        thread.join()
    interruption.reset()
    assert told == ["interrupted"]


def test_what_another_process_has_done_meanwhile_is_not_done_again(store: None) -> None:
    run_id = started("FINISHED")
    with steps.begun(step(), "digits") as work:
        assert (work.finished, work.interrupted) == (run_id, None)
    with steps.begun(step(fresh=True), "digits") as work:
        assert (work.finished, work.interrupted) == (None, None)


def test_an_interrupted_run_goes_on_unless_all_is_to_be_new(store: None) -> None:
    run_id = started("KILLED")
    with steps.begun(step(), "digits") as work:
        assert (work.finished, work.interrupted) == (None, run_id)
    with steps.begun(step(fresh=True), "digits") as work:
        assert work.interrupted is None
        assert not work.folder.exists()


def test_what_is_done_does_not_go_on(store: None) -> None:
    started("KILLED")
    with steps.begun(step(), "digits") as work:
        assert work.interrupted
    assert not work.folder.exists()
    assert leftovers.interrupted(step(), "digits") is None


def test_what_diverged_does_not_go_on_and_what_failed_otherwise_may(store: None) -> None:
    started("KILLED")
    for error, stays in ((UserError, True), (DivergedError, False)):
        with pytest.raises(error), steps.begun(step(), "digits") as work:
            raise error
        assert work.folder.exists() is stays


@pytest.mark.parametrize("word", [b"", b"' OR '", bytes(range(256))])
def test_a_claim_that_no_run_bears_or_that_is_damaged_is_of_none(store: None, word: bytes) -> None:
    """The first is what a process leaves that dies before its run is there."""
    folder = leftovers.folder_of(step())
    steps.Begun(step(), folder).claim()
    assert leftovers.interrupted(step(), "digits") is None
    run_id = started("KILLED")
    (folder / leftovers.CLAIM).write_bytes(word)
    assert leftovers.interrupted(step(), "digits") is None
    assert steps.Begun(step(), folder).claim()[tracking.CLAIM] != tracking.get(run_id).tags[tracking.CLAIM]


def test_a_claim_that_can_t_be_written_is_a_warning(store: None) -> None:
    folder = leftovers.folder_of(step())
    folder.write_text("not a folder")
    (told,) = steps.Begun(step(), folder).claim().items()
    assert told[0] == tracking.WARNING
    assert told[1].startswith(f"{folder}: a checkpoint can't be written: ")


@pytest.mark.parametrize("status", ["FAILED", None])
def test_a_run_that_failed_or_that_somebody_records_does_not_go_on(store: None, status: str | None) -> None:
    started(status)
    assert leftovers.interrupted(step(), "digits") is None


def test_a_deleted_run_or_one_of_another_key_does_not_go_on(store: None) -> None:
    started("KILLED", key="other")
    assert leftovers.interrupted(step(), "digits") is None
    MlflowClient().delete_run(started("KILLED"))
    assert leftovers.interrupted(step(), "digits") is None


def test_another_experiments_run_is_left_to_it(store: None) -> None:
    ours = started("KILLED")
    assert leftovers.interrupted(step(), "mnist") is None
    theirs = started("KILLED", experiment="mnist")
    for experiment, run_id in (("digits", ours), ("mnist", theirs)):
        run = leftovers.interrupted(step(), experiment)
        assert run is not None
        assert run.run_id == run_id


def test_checkpoints_of_other_seeds_are_set_aside(store: None, tmp_path: Path) -> None:
    """Raised from 3 to 5 while 5 were interrupted, the missing two met a checkpoint of five, and failed for good."""
    with steps.begun(step(), "digits") as work:
        five, two = (work.checkpoints("run", seeds) for seeds in (range(5), [3, 4]))
    five.keep(1, [Replica(seed) for seed in range(5)], [])
    five.flush()
    told: list[str] = []
    two._warn = told.append
    assert two.latest() is None
    assert "it is of another training" in told[0]


@pytest.mark.parametrize("word", ["soon", "-1", "inf", "nan"])
def test_an_interval_that_is_none_is_a_users_error(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_CHECKPOINT_SECONDS", word)
    with pytest.raises(UserError, match=f"KD_CHECKPOINT_SECONDS: '{word}' is no number of seconds; allowed: 0 or more"):
        steps.checkpoint_seconds()


def test_the_interval_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KD_CHECKPOINT_SECONDS", raising=False)
    assert steps.checkpoint_seconds() == steps.CHECKPOINT_SECONDS
    monkeypatch.setenv("KD_CHECKPOINT_SECONDS", "2.5")
    assert steps.checkpoint_seconds() == 2.5


def test_a_folder_that_can_not_be_made_is_a_users_error(
    store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"can't be made: .*; allowed: .* by \$XDG_CACHE_HOME"):
        tracking.machine_folder("runs")
