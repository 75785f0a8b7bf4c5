"""A training that continues on another machine gives the same replicas, in a run of its own."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from kdmodels.data import Split, load_dataset
from kdmodels.errors import DivergedError
from kdmodels.experiment import Data, Network, Recipe, Term
from kdmodels.networks import build
from kdmodels.training import Checkpoints, Replica, fit
from tasks import tracking
from tasks.execution.checkpoint_uploads import CHECKPOINTS, CheckpointUploads, take_over, uploaded
from tasks.execution.steps import StepWork, begin_step
from tasks.references import PlannedRun
from tasks.tracking.tags import Tag

STEP = PlannedRun(
    name="kd", kind="student", action="train", reason="", key="c0ffee", replicas="", params={}, seeds=[0, 1]
)
EPOCHS = 6
Machine = Callable[[str], None]


@pytest.fixture(autouse=True)
def machine(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a function that lets this process be another machine. Several machines can use the store."""
    monkeypatch.setattr(tracking, "is_shared", lambda: True)
    monkeypatch.setenv("KD_CHECKPOINT_SECONDS", "0")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def machine(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    machine("first")
    return machine


@pytest.fixture(scope="module")
def splits() -> tuple[Split, Split]:
    dataset = load_dataset(Data(source="digits", subset=200))
    return dataset.train, dataset.validation


def train(
    splits: tuple[Split, Split], checkpoints: Checkpoints | None, on_epoch: Callable[[int], None] = lambda epoch: None
) -> list[Replica]:
    network = build(
        Network.model_validate({"mlp": [8], "dropout": 0.1}), input_shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.3]
    )
    return fit(
        network,
        [Term(loss="hard_labels", weight=1)],
        Recipe(epochs=EPOCHS, batch=32),
        *splits,
        seeds=STEP.seeds,
        on_epoch=lambda epoch, replicas: on_epoch(epoch),
        checkpoints=checkpoints,
    )


def start(work: StepWork) -> str:
    tags = {**work.claim(), **({Tag.TAKEN_OVER: work.taken_over} if work.taken_over else {})}
    return tracking.start("digits", "kd", "student", key=STEP.key, tags=tags)


def same(one: list[Replica], other: list[Replica]) -> bool:
    return all(
        a.history == b.history and all(torch.equal(tensor, b.state[name]) for name, tensor in a.state.items())
        for a, b in zip(one, other, strict=True)
    )


def interrupted_at(last: int) -> Callable[[int], None]:
    def on_epoch(epoch: int) -> None:
        if epoch == last:
            raise KeyboardInterrupt

    return on_epoch


def interrupt(splits: tuple[Split, Split]) -> str:
    """Train until the end of epoch 3 on this machine, and return the id of the run."""
    with suppress(KeyboardInterrupt), begin_step(STEP, "digits") as work:
        assert work.taken_over is None
        run_id = start(work)
        train(splits, work.checkpoints(run_id, STEP.seeds), interrupted_at(3))
    return run_id


def test_another_machine_continues_the_training_in_a_run_of_its_own(
    splits: tuple[Split, Split], machine: Machine
) -> None:
    first = interrupt(splits)
    stored = uploaded(tracking.get(first))
    assert stored is not None
    assert stored.epoch == 3
    machine("second")
    epochs: list[int] = []
    with begin_step(STEP, "digits") as work:
        assert (work.finished, work.interrupted, work.taken_over) == (None, None, first)
        second = start(work)
        replicas = train(splits, work.checkpoints(second, STEP.seeds), epochs.append)
        tracking.end(second, "FINISHED")
    assert epochs == [4, 5, 6]
    assert same(replicas, train(splits, None))
    assert second != first
    assert tracking.get(first).status == "RUNNING"  # only its own process ends it
    assert not work.folder.exists()
    for run_id in (first, second):
        assert Tag.CHECKPOINT not in tracking.get(run_id).tags
        assert not tracking.has_artifact(run_id, CHECKPOINTS)


def test_the_first_process_may_live_and_each_run_has_the_replicas_of_one_process(
    splits: tuple[Split, Split], machine: Machine
) -> None:
    """The lease of the first process expires after epoch 3, e.g. because its machine is suspended."""
    taken: list[list[Replica]] = []

    def suspended(epoch: int) -> None:
        if epoch != 3:
            return
        machine("second")
        step = STEP.model_copy(update={"name": "second"})
        with begin_step(step, "digits") as work:
            assert work.taken_over
            run_id = start(work)
            taken.append(train(splits, work.checkpoints(run_id, STEP.seeds)))
            tracking.end(run_id, "FINISHED")
        machine("first")

    work = StepWork(STEP, tracking.machine_folder("checkpoints") / STEP.key)
    first = start(work)
    replicas = train(splits, work.checkpoints(first, STEP.seeds), suspended)
    tracking.end(first, "FINISHED")
    expected = train(splits, None)
    assert same(replicas, expected)
    assert same(taken[0], expected)
    runs = [run for run in tracking.runs("digits") if run.key == STEP.key]
    assert sorted(run.tags.get(Tag.TAKEN_OVER, "") for run in runs) == ["", first]


def test_a_run_of_this_machine_is_resumed_and_not_taken_over(splits: tuple[Split, Split]) -> None:
    run_id = interrupt(splits)
    tracking.end(run_id, "KILLED")
    with begin_step(STEP, "digits") as work:
        assert (work.interrupted, work.taken_over) == (run_id, None)


def test_nothing_is_taken_over_if_everything_is_trained_again_or_nobody_else_uses_the_store(
    splits: tuple[Split, Split], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(splits)
    machine("second")
    with suppress(KeyboardInterrupt), begin_step(STEP.model_copy(update={"fresh": True}), "digits") as work:
        assert work.taken_over is None
        raise KeyboardInterrupt  # keeps the checkpoints
    monkeypatch.setattr(tracking, "is_shared", lambda: False)
    with begin_step(STEP, "digits") as work:
        assert work.taken_over is None


@pytest.mark.parametrize("damage", ["files", "tag", "content"])
def test_damaged_checkpoints_are_not_used(
    damage: str, splits: tuple[Split, Split], machine: Machine, store: Path
) -> None:
    run_id = interrupt(splits)
    if damage == "files":
        tracking.delete_folder(run_id, CHECKPOINTS)
    elif damage == "tag":
        tracking.set_tags(run_id, {Tag.CHECKPOINT: '{"epoch": 3, "slot": "../0"}'})
    else:
        for file in store.rglob("checkpoint.safetensors"):
            file.write_bytes(file.read_bytes()[:-1])
    machine("second")
    with begin_step(STEP, "digits") as work:
        assert bool(work.taken_over) is (damage == "content")  # then the training finds the damage
        run_id, epochs = start(work), []
        train(splits, work.checkpoints(run_id, STEP.seeds), epochs.append)
    assert epochs == [*range(1, EPOCHS + 1)]


def test_a_diverged_training_leaves_no_checkpoint_in_the_store(splits: tuple[Split, Split]) -> None:
    with suppress(DivergedError), begin_step(STEP, "digits") as work:
        run_id = start(work)
        train(splits, work.checkpoints(run_id, STEP.seeds))
        assert uploaded(tracking.get(run_id))
        raise DivergedError("diverged")
    assert not tracking.has_artifact(run_id, CHECKPOINTS)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return the path of a checkpoint of epoch 1. Other epochs have checkpoints, too."""
    for epoch in range(1, 9):
        for suffix in (".json", ".safetensors"):
            (tmp_path / f"epoch-{epoch:06}{suffix}").write_text(f"{epoch}{suffix}")
    return tmp_path / "epoch-000001.json"


def epoch_after(uploads: CheckpointUploads, path: Path, run_id: str, *, is_interrupted: bool = False) -> int:
    """Offer a checkpoint, and return the epoch of the newest checkpoint in the store. 0 if there is none."""
    uploads(path, is_interrupted)
    newest = uploaded(tracking.get(run_id))
    return newest.epoch if newest else 0


def test_uploads_keep_their_distance_and_the_last_before_an_interruption_is_always_sent(written: Path) -> None:
    now = [0.0]
    run_id = tracking.start("digits", "kd", "student")
    uploads = CheckpointUploads(run_id, 60, pytest.fail, clock=lambda: now[0])
    epochs = []
    for epoch, now[0] in enumerate((30, 61, 100, 122, 130), start=1):
        epochs.append(epoch_after(uploads, written.with_name(f"epoch-{epoch:06}.json"), run_id))
    assert epochs == [0, 2, 2, 4, 4]
    last = written.with_name("epoch-000005.json")
    assert epoch_after(uploads, last, run_id, is_interrupted=True) == 5
    for slot, content in ((0, "5.json"), (1, "4.json")):
        assert tracking.artifact(run_id, f"{CHECKPOINTS}/{slot}/checkpoint.json").read_text() == content
    resumed = CheckpointUploads(run_id, 0, pytest.fail)
    assert epoch_after(resumed, written.with_name("epoch-000006.json"), run_id) == 6
    assert tracking.artifact(run_id, f"{CHECKPOINTS}/0/checkpoint.json").read_text() == "5.json"  # still whole


def test_slow_uploads_take_at_most_a_twentieth_of_the_time(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    run_id, log_folder = tracking.start("digits", "kd", "student"), tracking.log_folder

    def slow(*arguments: object) -> None:
        now[0] += 10
        log_folder(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tracking, "log_folder", slow)
    uploads = CheckpointUploads(run_id, 0, pytest.fail, clock=lambda: now[0])
    assert epoch_after(uploads, written, run_id) == 1
    now[0] = 209
    assert epoch_after(uploads, written.with_name("epoch-000002.json"), run_id) == 1
    now[0] = 210
    assert epoch_after(uploads, written.with_name("epoch-000003.json"), run_id) == 3


def test_a_failed_upload_is_a_warning(written: Path) -> None:
    warnings: list[str] = []
    run_id = tracking.start("digits", "kd", "student")
    CheckpointUploads(run_id, 0, warnings.append)(written.with_name("epoch-000099.json"), True)
    assert len(warnings) == 1
    assert warnings[0].startswith("the checkpoint epoch-000099 can't be stored for other machines: ")
    assert take_over(STEP, written.parent) is None
