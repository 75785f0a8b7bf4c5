from pathlib import Path

import pytest

from tasks import tracking
from tasks.cleanup import leftovers
from tasks.references import PlannedRun


@pytest.fixture
def step(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlannedRun:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return PlannedRun(name="kd", kind="student", action="train", reason="", key="k", replicas="r", params={}, seeds=[0])


def checkpoint(step: PlannedRun, claim: str = "c1", epoch: int = 3) -> Path:
    folder = leftovers.folder_of(step)
    folder.mkdir(exist_ok=True)
    (folder / leftovers.CLAIM).write_text(claim)
    (folder / f"epoch-{epoch:06}.json").write_text("{}")
    return folder


def test_a_stopped_run_of_the_same_key_can_be_resumed(step: PlannedRun) -> None:
    assert leftovers.interrupted(step, "digits") is None
    checkpoint(step)
    run_id = tracking.start("digits", "kd", "student", key="k", tags={"kd.claim": "c1"})
    assert leftovers.interrupted(step, "digits") is None  # this process still records the run
    with pytest.raises(KeyboardInterrupt), tracking.recording(run_id):
        raise KeyboardInterrupt
    run = leftovers.interrupted(step, "digits")
    assert run is not None
    assert run.run_id == run_id
    assert leftovers.interrupted(step, "other") is None
    assert leftovers.interrupted(step.model_copy(update={"key": "other"}), "digits") is None


def test_the_newest_checkpoint_tells_the_epoch(step: PlannedRun) -> None:
    assert leftovers.last_epoch(step) == 0
    checkpoint(step, epoch=3)
    checkpoint(step, epoch=12)
    assert leftovers.last_epoch(step) == 12


def test_checkpoints_of_a_finished_or_unknown_run_are_orphaned(step: PlannedRun) -> None:
    folder = checkpoint(step)
    assert leftovers.kept_in(folder).why == "their run is not in the store"
    run_id = tracking.start("digits", "kd", "student", key="k", tags={"kd.claim": "c1"})
    assert not leftovers.kept_in(folder).orphaned
    with tracking.recording(run_id):
        pass
    assert leftovers.kept_in(folder).why == "their run is finished"
    assert [kept.folder for kept in leftovers.kept()] == [folder]


@pytest.mark.parametrize("claim", ["", "a' OR '1", "two words"])
def test_a_claim_is_letters_and_digits(step: PlannedRun, claim: str) -> None:
    assert leftovers.claim_in(checkpoint(step, claim)) is None
