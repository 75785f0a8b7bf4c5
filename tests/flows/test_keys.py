"""When a finished run is reused, and when it is not: the keys of real runs in a real store."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flows.distill import Options, Outcome, distill, plan_only
from kdmodels.experiment import Experiment
from kdmodels.networks import load_network
from kdmodels.recipe import OPTIMIZERS, Adam, Recipe
from kdmodels.versions import VERSIONS
from tasks import tracking
from tasks.references import Plan

SMALL: dict[str, Any] = {
    "name": "keys",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "teacher": {"network": {"mlp": [8]}, "epochs": 1},
    "student": {"network": {"mlp": [4]}, "epochs": 1, "seeds": 1},
    "variants": ["hard-labels"],
}
NET = (
    "from torch import nn\n\nfrom keyed_helper import width\n\n\ndef net(classes):\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width()), nn.ReLU(), nn.Linear(width(), classes))\n"
)


@pytest.fixture(scope="module", autouse=True)
def store(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        yield


def run(**changes: Any) -> Outcome:
    return distill(Experiment.model_validate(SMALL | changes))


def planned(**changes: Any) -> Plan:
    return plan_only(Experiment.model_validate(SMALL | changes), Options())


def actions(plan: Plan) -> dict[str, str]:
    return {step.name: step.action for step in plan.steps}


def test_a_helper_module_that_changes_trains_anew_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of before was reused: only the file of its own class was looked at."""
    (tmp_path / "keyed_nets.py").write_text(NET)
    helper = tmp_path / "keyed_helper.py"
    helper.write_text("def width():\n    return 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    own = SMALL["student"] | {"network": "keyed_nets:net"}
    run(student=own)
    assert [step.action for step in planned(student=own).students] == ["reuse"]
    helper.write_text("def width():\n    return 6\n")
    (step,) = planned(student=own).students
    assert (step.action, step.reason) == ("train", "keyed_helper changed")


def test_new_test_images_train_nothing_anew_and_are_measured(tmp_path: Path) -> None:
    """The test split was in every key: more test images trained everything again."""
    file = tmp_path / "pool.npz"
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    images = (generator.integers(0, 60, (120, 6, 6)) + labels[:, None, None] * 60).astype(np.uint8)
    train = {"images": images, "labels": labels}
    test = {"test_images": images[::2] + 1, "test_labels": labels[::2]}
    np.savez(file, **train, **test)
    changes: dict[str, Any] = {"name": "pool", "data": {"source": str(file), "validation": 0.2}, "variants": ["kd"]}
    first = run(**changes)
    np.savez(file, **train, **test | {"test_images": images[1::2] + 2, "test_labels": labels[1::2]})
    assert actions(planned(**changes)) == {"teacher": "reuse", "hard-labels": "reuse", "kd": "reuse"}
    again = run(**changes, promote={"model": "pool-again"})  # it has no champion yet
    assert [student.reused for student in again.students] == [True, True]
    before, after = (outcome.verdict.evidence["test"]["digest"] for outcome in (first, again))
    assert before != after
    winner = next(one for one in again.students if one.variant == again.verdict.winner)
    assert winner.run_id is not None
    network, _ = load_network(tracking.artifact(winner.run_id, "network"))
    pixels = torch.from_numpy(images[1::2] + 2).unsqueeze(1) / 255
    accuracy = (network(pixels).argmax(dim=1).numpy() == labels[1::2]).mean()
    assert again.verdict.test_accuracy[again.verdict.winner] == pytest.approx(accuracy)
    np.savez(file, **train | {"images": images + 1}, **test)
    assert set(actions(planned(**changes)).values()) == {"train"}


def test_every_value_that_a_recipe_resolves_to_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default of an optimizer was neither recorded nor part of the code's fingerprint."""
    for name, model in OPTIMIZERS.items():
        (step,) = planned(student=SMALL["student"] | {"optimizer": {name: {"lr": 0.01}}}).students
        wanted = {f"optimizer.{name}.{field}" for field in model.model_fields}
        assert wanted == {param for param in step.params if param.startswith("optimizer.")}
    assert {param.partition(".")[0] for param in step.params} >= Recipe.model_fields.keys()
    before = planned()
    monkeypatch.setattr(Adam.model_fields["eps"], "default", 1e-6)
    Adam.model_rebuild(force=True)
    try:
        changed = planned()
    finally:
        monkeypatch.undo()
        Adam.model_rebuild(force=True)
    assert [step.key for step in planned().steps] == [step.key for step in before.steps]
    assert not {step.key for step in changed.steps} & {step.key for step in before.steps}


def test_only_runs_that_depend_on_a_result_that_changed_are_trained_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"name": "versions", "variants": ["kd", "rkd"]}
    run(**changes)
    assert set(actions(planned(**changes)).values()) == {"reuse"}
    monkeypatch.setitem(VERSIONS, "loss.soft_targets", 2)  # type: ignore[arg-type]
    plan = planned(**changes)
    assert actions(plan) == {"teacher": "reuse", "hard-labels": "reuse", "kd": "train", "rkd": "reuse"}
    assert plan.students[1].reason == "kdflow's results of loss.soft_targets changed"
    monkeypatch.setitem(VERSIONS, "network.conv", 2)  # type: ignore[arg-type]
    assert [step.key for step in planned(**changes).steps] == [step.key for step in plan.steps]
    monkeypatch.setitem(VERSIONS, "training", 2)  # type: ignore[arg-type]
    assert set(actions(planned(**changes)).values()) == {"train"}
