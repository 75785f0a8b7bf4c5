"""Checkpoints: an interrupted training equals an uninterrupted training, and no partial file is read."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.networks import build, initialise
from kdmodels.randomness import generator_for
from kdmodels.training import Checkpoints, Replica, fit

SHAPE = {"input_shape": (1, 8, 8), "classes": 3, "mean": [0.5], "std": [0.25]}
EPOCHS = 4


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    labels = torch.randint(3, (examples,), generator=generator)
    images = torch.rand(examples, 1, 8, 8, generator=generator) * 0.4 + labels.view(-1, 1, 1, 1) * 0.3
    return Split(images, labels)


TRAIN, VALIDATION = split(50, "train"), split(20, "validation")
STEPS = 4  # of an epoch


def taught(network: nn.Module, places: list[str]) -> tuple[Knowledge, Knowledge]:
    train, validation = (distil_knowledge(network, part, places) for part in (TRAIN, VALIDATION))
    return train, validation


class Interruption:
    """Callback `on_step` that raises KeyboardInterrupt before a certain step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def same(one: list[Replica], other: list[Replica]) -> bool:
    def tensors(replica: Replica) -> dict[str, torch.Tensor]:
        return {**replica.state, **{f"own {name}": tensor for name, tensor in replica.own.items()}}

    return repr([(r.seed, r.epoch, r.diverged, r.culprits, r.history) for r in one]) == repr(
        [(r.seed, r.epoch, r.diverged, r.culprits, r.history) for r in other]
    ) and all(
        tensors(a).keys() == tensors(b).keys()
        and all(torch.allclose(t, tensors(b)[n], rtol=0, atol=0, equal_nan=True) for n, t in tensors(a).items())
        for a, b in zip(one, other, strict=True)
    )


def refuse(warned: str) -> None:
    raise AssertionError(warned)


def checkpoints(
    folder: Path, spec: str = "spec", every: float = 0.0, warn: Callable[[str], None] = refuse
) -> Checkpoints:
    return Checkpoints(folder, spec, every=every, warn=warn)


MLP, CONV = {"mlp": [6], "dropout": 0.2}, {"conv": [4, 4]}
HARD, KD = {"hard_labels": {}}, {"soft_targets": {"temperature": 4.0}}
CASES: dict[str, tuple[dict[str, Any], dict[str, dict[str, float]], dict[str, Any]]] = {  # network, losses, recipe
    "dropout, stacked": (MLP, HARD | KD, {}),
    "convolutional, side by side": (CONV, HARD | KD, {}),
    "momentum": (MLP, HARD, {"optimizer": {"sgd": {"lr": 0.1, "momentum": 0.9}}}),
    "amsgrad and a cosine": (
        MLP,
        HARD,
        {"optimizer": {"adamw": {"lr": 0.01, "amsgrad": True}}, "schedule": {"cosine": {}}},
    ),
    "a largest norm": (MLP, HARD | KD, {"max_norm": 0.4, "ema": 0.9}),
    "averaged weights": (CONV, HARD, {"ema": 0.9}),
    "the best epoch, and patience": (MLP, HARD, {"select": "best-validation", "patience": 1}),
    "a projection": (MLP, HARD | {"hint": {}}, {}),
    "a memory bank": (CONV, HARD | {"contrastive_representation": {}}, {}),
    "an adversary": (MLP, HARD | {"adversarial": {}}, {}),
    "a loss of the user's own, with parameters": (MLP, HARD | {"tests.support.losses:Scaled": {}}, {}),
    "an optimizer of torch": (CONV, HARD, {"optimizer": {"torch.optim:NAdam": {"lr": 0.01}}}),
    "an optimizer of the user's own": (MLP, HARD | KD, {"optimizer": {"tests.support.optimizers:Normed": {"lr": 0.1}}}),
    "a replica that diverges": (MLP, {"hard_labels": {"weight": 1e38}}, {"optimizer": {"sgd": {"lr": 1e5}}}),
}


EVERY = {"the best epoch of two, and patience": 3, "some validated epochs": 2, "a rarely validated divergence": 3}
CASES |= {
    "the best epoch of two, and patience": (MLP, HARD, {"select": "best-validation", "patience": 1}),
    "some validated epochs": (CONV, HARD | KD, {}),
    "a rarely validated divergence": CASES["a replica that diverges"],
}


def run(case: str, compiled: bool = False, **how: Any) -> list[Replica]:
    network, losses, settings = CASES[case]
    terms = [Term.model_validate({loss: given}) for loss, given in losses.items()]
    teacher = build(Network.model_validate({"mlp": [8]} if "mlp" in network else {"conv": [6, 6]}), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    student = build(Network.model_validate(network), **SHAPE)
    recipe = Recipe.model_validate({"epochs": EPOCHS, "batch": 16, "compile": compiled, **settings})
    knowledge = taught(teacher, sorted({there for term in terms for _, there in term.pairs}))
    how["validate_every"] = EVERY.get(case, 1)
    return fit(student, terms, recipe, TRAIN, VALIDATION, seeds=[0, 1], knowledge=knowledge, **how)


uninterrupted = cache(run)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [2, 2 * STEPS + 3])
def test_an_interrupted_training_equals_an_uninterrupted_training(case: str, step: int, tmp_path: Path) -> None:
    stacks = 1 if "mlp" in CASES[case][0] else 2  # whose steps are taken one after the other
    try:
        interrupted = run(case, checkpoints=checkpoints(tmp_path), on_step=Interruption(step * stacks))
    except KeyboardInterrupt:
        interrupted = run(case, checkpoints=checkpoints(tmp_path))
    assert same(interrupted, uninterrupted(case))


@pytest.mark.fault
@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("case", ["dropout, stacked", "momentum"])
def test_an_interrupted_compiled_training_equals_an_uninterrupted_training(case: str, tmp_path: Path) -> None:
    """Batches have two sizes. A step compiled for dynamic sizes, after both were seen, would compute other bits."""
    whole = run(case, compiled=True)
    with pytest.raises(KeyboardInterrupt):
        run(case, compiled=True, checkpoints=checkpoints(tmp_path), on_step=Interruption(2 * STEPS + 3))
    assert same(run(case, compiled=True, checkpoints=checkpoints(tmp_path)), whole)


def test_only_the_epochs_after_the_checkpoint_are_trained_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run("momentum", checkpoints=checkpoints(tmp_path), on_step=Interruption(3 * STEPS + 1))
    steps, epochs = [], []
    run(
        "momentum",
        checkpoints=checkpoints(tmp_path),
        on_step=lambda: steps.append(0),
        on_epoch=lambda epoch, replicas: epochs.append((epoch, len(replicas[0].history))),
    )
    assert (len(steps), epochs) == (STEPS, [(4, 4)])


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    whole = run("the best epoch, and patience", checkpoints=checkpoints(tmp_path))
    again = run("the best epoch, and patience", checkpoints=checkpoints(tmp_path), on_step=Interruption(0))
    assert same(again, whole)


def test_two_checkpoints_are_kept_at_the_requested_interval(tmp_path: Path) -> None:
    run("momentum", checkpoints=checkpoints(tmp_path / "each"))
    names = {path.name for path in (tmp_path / "each").iterdir()}
    assert names == {f"epoch-00000{epoch}.{kind}" for epoch in (3, 4) for kind in ("json", "safetensors")}
    run("momentum", checkpoints=checkpoints(tmp_path / "rarely", every=3600.0))
    assert not (tmp_path / "rarely").exists()
    with pytest.raises(KeyboardInterrupt):  # then what was remembered is written
        run("momentum", checkpoints=checkpoints(tmp_path / "rarely", every=3600.0), on_step=Interruption(2 * STEPS))
    assert {path.stem for path in (tmp_path / "rarely").iterdir()} == {"epoch-000002"}


def test_the_seconds_of_all_parts_of_a_training_count(tmp_path: Path) -> None:
    clock = iter([0.0, 5.0, 5.0, 5.0, 100.0, 107.0, 107.0, 107.0])
    one = Checkpoints(tmp_path, "spec", every=1.0, warn=refuse, clock=clock.__next__)
    one.keep(1, [], [])
    two = Checkpoints(tmp_path, "spec", every=1.0, warn=refuse, clock=clock.__next__)
    assert two.latest() is not None
    assert two.seconds == 5.0
    two.keep(2, [], [])
    again = checkpoints(tmp_path).latest()
    assert again is not None
    assert again.seconds == 12.0


def damaged(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(("suffix", "change"), [
    ("safetensors", lambda content: content[:-1]),
    ("safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    ("safetensors", lambda content: b""),
    ("json", lambda content: content[: len(content) // 2]),
    ("json", lambda content: b"[]"),
    ("json", lambda content: content.replace(b'"epoch"', b'"epic"')),
    ("json", lambda content: content.replace(b'"spec": "spec"', b'"spec": "other"')),
    ("json", lambda content: b"\xff\xfe"),
])  # fmt: skip
def test_a_damaged_checkpoint_is_set_aside_and_the_previous_checkpoint_is_used(
    tmp_path: Path, suffix: str, change: Callable[[bytes], bytes]
) -> None:
    run("dropout, stacked", checkpoints=checkpoints(tmp_path))
    damaged(tmp_path / f"epoch-00000{EPOCHS}.{suffix}", change)
    warned: list[str] = []
    epochs = []
    again = run(
        "dropout, stacked",
        checkpoints=checkpoints(tmp_path, warn=warned.append),
        on_epoch=lambda epoch, replicas: epochs.append(epoch),
    )
    assert same(again, uninterrupted("dropout, stacked"))
    assert epochs == [EPOCHS]
    assert len(warned) == 1
    assert f"epoch-00000{EPOCHS}.json: set aside" in warned[0]
    assert len(list(tmp_path.glob("*.damaged"))) == 2


def test_a_checkpoint_with_unknown_tensor_names_is_set_aside(tmp_path: Path) -> None:
    """The checksum is right, but the tensors are no snapshot of a training."""
    checkpoints(tmp_path).keep(1, [], [{"x": torch.zeros(1)}])
    save_file({"nobody's": torch.zeros(1)}, tmp_path / "epoch-000001.safetensors")
    facts = json.loads((tmp_path / "epoch-000001.json").read_text())
    facts["sha256"] = hashlib.sha256((tmp_path / "epoch-000001.safetensors").read_bytes()).hexdigest()
    (tmp_path / "epoch-000001.json").write_text(json.dumps(facts))
    warned: list[str] = []
    assert checkpoints(tmp_path, warn=warned.append).latest() is None
    assert len(warned) == 1


def test_a_checkpoint_without_its_tensors_is_set_aside(tmp_path: Path) -> None:
    run("momentum", checkpoints=checkpoints(tmp_path))
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    warned: list[str] = []
    assert checkpoints(tmp_path, warn=warned.append).latest() is None
    assert len(warned) == 2


@given(st.binary(max_size=200), st.booleans())
def test_any_file_is_read_or_set_aside(tmp_path_factory: pytest.TempPathFactory, content: bytes, facts: bool) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    checkpoints(folder).keep(
        1, [Replica(0, [{"val/accuracy": 1.0}], {"w": torch.zeros(2)}, {}, 1)], [{"x": torch.zeros(1)}]
    )
    (folder / f"epoch-000001.{'json' if facts else 'safetensors'}").write_bytes(content)
    warned: list[str] = []
    assert checkpoints(folder, warn=warned.append).latest() is None
    assert len(warned) == 1


def test_an_unwritable_folder_loses_checkpoints_but_not_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warned: list[str] = []
    assert same(
        run("momentum", checkpoints=checkpoints(tmp_path / "file" / "x", warn=warned.append)), uninterrupted("momentum")
    )
    assert len(warned) == EPOCHS
    assert "a checkpoint can't be written" in warned[0]


def test_a_failed_write_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("momentum", checkpoints=checkpoints(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdmodels.files.atomic.sync", full)
    warned: list[str] = []
    checkpoints(tmp_path, warn=warned.append).keep(9, [], [{"x": torch.zeros(1)}])
    assert "No space left" in warned[0]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_facts_are_json(tmp_path: Path) -> None:
    run("a replica that diverges", checkpoints=checkpoints(tmp_path))
    (newest,) = sorted(tmp_path.glob("*.json"))[-1:]
    facts = json.loads(newest.read_text())
    assert facts["replicas"][0]["diverged"] == 1
    assert facts["spec"] == "spec"
