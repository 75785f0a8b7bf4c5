"""Cache keys: which changes train again and which reuse a finished run, with real runs in a real store."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flows.distill import Options, Outcome, distill, plan_only
from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment
from kdmodels.experiment.optimization import OPTIMIZERS, Adam
from kdmodels.experiment.recipe import Recipe
from kdmodels.networks import load_network
from kdmodels.versions import VERSIONS
from tasks import tracking
from tasks.planning.keys import common_params, digest, flatten, run_key, student_params
from tasks.references import DataReference, Plan, Views
from tests.conftest import SMALL
from tests.tasks.planning.conftest import small_experiment

pytestmark = pytest.mark.usefixtures("module_store")
EXPERIMENT = SMALL | {
    "teacher": {"network": {"mlp": [8]}, "epochs": 1},
    "student": {"network": {"mlp": [4]}, "epochs": 1, "seeds": 1},
    "variants": ["hard-labels"],
}
NET = (
    "from torch import nn\n\nfrom keyed_helper import width\n\n\ndef net(classes):\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width()), nn.ReLU(), nn.Linear(width(), classes))\n"
)


def run(**changes: Any) -> Outcome:
    return distill(Experiment.model_validate(EXPERIMENT | changes))


def planned(**changes: Any) -> Plan:
    return plan_only(Experiment.model_validate(EXPERIMENT | changes), Options())


def actions(plan: Plan) -> dict[str, str]:
    return {step.name: step.action for step in plan.steps}


def test_a_changed_helper_module_trains_again_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A former version looked only at the file of the network's class, and reused the old network."""
    (tmp_path / "keyed_nets.py").write_text(NET)
    helper = tmp_path / "keyed_helper.py"
    helper.write_text("def width():\n    return 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    student = EXPERIMENT["student"] | {"network": "keyed_nets:net"}
    run(student=student)
    assert [step.action for step in planned(student=student).students] == ["reuse"]
    helper.write_text("def width():\n    return 6\n")
    (step,) = planned(student=student).students
    assert (step.action, step.reason) == ("train", "keyed_helper changed")


def test_the_code_of_a_loss_is_in_the_keys_of_the_variants_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "def loss(student_logits, teacher_logits):\n    return (student_logits - teacher_logits).abs().mean(1)\n"
    (tmp_path / "keyed_losses.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    variants = ["hard-labels", "kd", {"name": "mine", "terms": ["hard_labels", "keyed_losses:loss"]}]
    first = {step.name: step for step in planned(variants=variants).steps}
    (tmp_path / "keyed_losses.py").write_text(source + "# changed\n")
    second = {step.name: step for step in planned(variants=variants).steps}
    assert [name for name, step in first.items() if second[name].key != step.key] == ["mine"]
    changed = {name for name, value in first["mine"].params.items() if second["mine"].params[name] != value}
    assert changed == {"source.keyed_losses"}


def test_the_code_of_an_augmentation_is_in_the_keys_of_the_networks_that_see_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "def dark(image, generator, *, by: float = 0.5):\n    return image * by\n"
    (tmp_path / "keyed_augment.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    operations = [{"keyed_augment:dark": {"by": 0.4}}]

    def changed(**changes: Any) -> list[str]:
        (tmp_path / "keyed_augment.py").write_text(source)
        first = {step.name: step for step in planned(variants=["kd"], **changes).steps}
        (tmp_path / "keyed_augment.py").write_text(source + "# changed\n")
        second = {step.name: step for step in planned(variants=["kd"], **changes).steps}
        return [name for name, step in first.items() if second[name].key != step.key]

    assert changed(data=EXPERIMENT["data"] | {"augment": operations}) == ["teacher", "hard-labels", "kd"]
    assert changed(student=EXPERIMENT["student"] | {"augment": operations}) == ["hard-labels", "kd"]
    ensemble = [EXPERIMENT["teacher"] | {"augment": []}] * 2
    both = changed(teacher=ensemble, student=EXPERIMENT["student"] | {"augment": operations})
    assert both == ["teacher", "hard-labels", "kd"]


def test_the_code_of_an_optimizer_is_in_the_keys_of_the_networks_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from torch.optim import RMSprop\n\n\nclass Mine(RMSprop):\n    pass\n"
    (tmp_path / "keyed_optimizers.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    student = EXPERIMENT["student"] | {"optimizer": {"keyed_optimizers:Mine": {"lr": 1, "alpha": 0.9}}}
    first = {step.name: step for step in planned(student=student, variants=["kd"]).steps}
    (tmp_path / "keyed_optimizers.py").write_text(source + "# changed\n")
    second = {step.name: step for step in planned(student=student, variants=["kd"]).steps}
    assert [name for name, step in first.items() if second[name].key != step.key] == ["hard-labels", "kd"]
    params = first["kd"].params
    assert params["optimizer.keyed_optimizers:Mine.alpha"] == 0.9
    changed = {name for name, value in params.items() if second["kd"].params[name] != value}
    assert changed == {"source.keyed_optimizers"}


def test_new_test_images_train_nothing_again_but_are_measured(tmp_path: Path) -> None:
    """In a former version the test split was in every key, and more test images trained everything again."""
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
    again = run(**changes, promote={"model": "pool-again"})  # a model without champion
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


def test_every_resolved_value_of_a_recipe_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a former version a default of an optimizer was neither recorded nor part of the key."""
    for name, model in OPTIMIZERS.items():
        fields = {"optimizer": {name: {"lr": 0.01}}, "max_norm": 1.0}  # without a value, max_norm is in no key
        (step,) = planned(student=EXPERIMENT["student"] | fields).students
        expected = {f"optimizer.{name}.{field}" for field in model.model_fields}
        assert expected == {param for param in step.params if param.startswith("optimizer.")}
    # Only networks with convolutions have `init`; another test covers it.
    assert {param.partition(".")[0] for param in step.params} >= Recipe.model_fields.keys() - {"init"}
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


def test_only_runs_that_depend_on_a_changed_result_are_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
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


TEACHER = EXPERIMENT["teacher"]


@pytest.mark.parametrize(("own", "again"), [
    ({"augment": [{"jitter": 1}]}, {"teacher": "train", "hard-labels": "reuse", "kd": "train"}),
    ({"normalise": {"mean": [0.5], "std": [0.5]}}, {"teacher": "train", "hard-labels": "reuse", "kd": "train"}),
    ({"size": 16}, {"teacher": "train", "hard-labels": "reuse", "kd": "train"}),
    ({"data": {"subset": 700}}, {"teacher": "train", "hard-labels": "reuse", "kd": "train"}),
    ({"augment": [], "data": {}}, {"teacher": "reuse", "hard-labels": "reuse", "kd": "reuse"}),
], ids=lambda value: "-".join(value))  # fmt: skip
def test_fields_of_the_teacher_change_only_what_depends_on_it(own: dict[str, Any], again: dict[str, str]) -> None:
    changes = {"name": "own fields", "variants": ["kd"], "data": EXPERIMENT["data"] | {"subset": 600}}
    run(**changes)
    assert actions(planned(**changes, teacher=TEACHER | own)) == again


def test_a_teachers_key_depends_on_its_own_data_and_on_the_validation_split() -> None:
    def keys(data: dict[str, Any], own: dict[str, Any]) -> tuple[str, str]:
        plan = planned(data=EXPERIMENT["data"] | data, teacher=TEACHER | {"data": own})
        return plan.teacher.key, plan.students[0].key

    teacher, student = keys({"subset": 200}, {"subset": 600})
    other_teacher, same_student = keys({"subset": 200}, {"subset": 700})
    assert (other_teacher != teacher, same_student) == (True, student)
    assert keys({"subset": 150}, {"subset": 600})[0] != teacher  # another validation split
    assert keys({"labelled": 100}, {"labelled": None})[0] == keys({"labelled": 200}, {"labelled": None})[0]


def test_transfer_images_change_only_the_keys_of_distilled_students_and_of_their_control() -> None:
    def keys(transfer: dict[str, Any] | None) -> dict[str, str]:
        plan = planned(data=EXPERIMENT["data"] | {"labelled": 100, "transfer": transfer}, variants=["kd"])
        return {step.name: step.key for step in plan.steps}

    alone, rest = keys(None), keys({"unlabelled": "rest"})
    some, classes = keys({"unlabelled": "rest", "count": 50}), keys({"unlabelled": "rest", "classes": [7, 8]})
    for name in ("teacher", "hard-labels"):
        assert alone[name] == rest[name] == some[name] == classes[name]
    assert len({step["kd"] for step in (alone, rest, some, classes)}) == 4
    assert len({step["hard-labels-equal-steps"] for step in (rest, some, classes)}) == 3


def test_the_key_of_an_ensemble_covers_the_code_of_an_augmentation_that_no_member_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outputs of the ensemble are stored for the augmented images of the students."""
    student = EXPERIMENT["student"] | {"augment": [{"jitter": 1}]}

    def key(augment: list[dict[str, Any]]) -> str:
        return planned(student=student, teacher=[TEACHER | {"augment": augment}] * 2, variants=["kd"]).teacher.key

    before = key([]), key([{"jitter": 1}])
    monkeypatch.setitem(VERSIONS, "augment.jitter", VERSIONS["augment.jitter"] + 1)  # type: ignore[arg-type]
    assert key([]) != before[0]
    assert key([{"jitter": 1}]) != before[1]


def test_the_students_augmentation_is_the_same_in_either_field() -> None:
    jitter: list[dict[str, Any]] = [{"jitter": 1}]
    shared = planned(data=EXPERIMENT["data"] | {"augment": jitter})
    apart = planned(student=EXPERIMENT["student"] | {"augment": jitter}, teacher=TEACHER | {"augment": jitter})
    assert [step.key for step in apart.steps] == [step.key for step in shared.steps]
    teacher_only = planned(
        student=EXPERIMENT["student"] | {"augment": []}, data=EXPERIMENT["data"] | {"augment": jitter}
    )
    assert teacher_only.teacher.key == shared.teacher.key
    assert [step.key for step in teacher_only.students] == [step.key for step in planned().students]


def test_the_runner_is_part_of_no_key() -> None:
    keys = {
        kind: [step.key for step in planned(variants=["hard-labels", "kd"], runner={"kind": kind}).steps]
        for kind in ("auto", "thread", "process", "ray", "dask")
    }
    assert len({tuple(of_kind) for of_kind in keys.values()}) == 1


def test_the_device_that_was_found_is_part_of_every_key(data: DataReference) -> None:
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert common_params(small_experiment(), data, ())["device"] == device
    assert common_params(small_experiment(device="cpu"), data, ())["device"] == "cpu"
    if device == "cpu":
        with pytest.raises(UserError, match=r"^device: this machine has no cuda device\. Allowed: auto, cpu$"):
            common_params(small_experiment(device="cuda"), data, ())


def test_later_fields_of_the_data_are_in_the_key_only_if_they_are_set(data: DataReference) -> None:
    def params(**fields: Any) -> Any:
        changed = data.model_copy(update={"data": Data.model_validate({"source": "digits", **fields})})
        return common_params(small_experiment(device="cpu"), changed, (), transfer=True)["data"]

    settings = {"size": None, "normalise": None, "validation": None, "subset": None, "augment": []}
    plain = settings | {"digest": data.training_digest}
    assert flatten(params()) == flatten(params(transfer={"unlabelled": "./more"})) == flatten(plain)
    fields = {"labelled": 100, "validate_every": 2, "transfer": {"unlabelled": "rest", "count": 9, "classes": [7]}}
    added = {"labelled": 100, "validate_every": 2, "transfer": {"count": 9, "classes": ["7"]}}
    assert flatten(params(**fields)) == flatten(plain | added)


def test_later_fields_of_a_recipe_are_in_the_key_only_if_they_are_set(data: DataReference) -> None:
    def params(**fields: Any) -> Any:
        student = SMALL["student"] | fields
        experiment = small_experiment(device="cpu", student=student)
        return student_params(experiment.variants[0], experiment, data, "", Views(count=1, reason=""))

    plain, limited = flatten(params()), flatten(params(max_norm=3))
    assert "max_norm" not in plain
    assert limited == plain | {"max_norm": 3.0}
    assert "init" not in plain
    convolutional = {"network": {"conv": [4]}}
    assert flatten(params(init="fan_out", **convolutional)) == flatten(params(**convolutional)) | {"init": "fan_out"}


def test_the_order_of_a_mapping_does_not_change_the_key() -> None:
    one = {"arguments": {"layers": [[{"width": 4, "depth": 2.5}]], "a": None, "b": True}}
    other = {"arguments": {"b": True, "a": None, "layers": [[{"depth": 2.5, "width": 4}]]}}
    assert digest(flatten(one)) == digest(flatten(other))
    assert digest(flatten(one)) != digest(flatten({"arguments": one["arguments"] | {"b": 1.0}}))


@pytest.mark.fault
def test_the_keys_are_the_same_in_every_process_and_locale(tmp_path: Path) -> None:
    keys = []
    for number, locale in enumerate(("C", "tr_TR.UTF-8")):
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/{number}.db", "PYTHONHASHSEED": str(number + 1),
            "LC_ALL": locale, "LANG": locale, "XDG_CACHE_HOME": str(tmp_path / str(number)),
            "PYTHONUTF8": str(number),
        }  # fmt: skip
        words = ["run", "digits-losses", "--dry-run", "--json"]
        process = subprocess.run(
            [Path(sys.executable).with_name("kd"), *words], env=environment, cwd=tmp_path, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        plan = json.loads(process.stdout)
        keys.append({step["name"]: step["key"] for step in [plan["teacher"], *plan["students"]]})
    assert keys[0] == keys[1]
    assert len(set(keys[0].values())) == len(keys[0]) > 20


def test_the_key_of_given_params_and_seeds_never_changes() -> None:
    """Another digest would train every run of every user again."""
    key = run_key({"network": {"mlp": [8]}, "terms": [{"loss": "hint", "weight": 0.5}], "size": None}, [0, 1])
    assert key.params == {"network.mlp": "[8]", "terms.0.loss": "hint", "terms.0.weight": 0.5, "size": None}
    assert (key.key, key.replicas) == ("384df4398acefe3539bf3deff4416892", "0ccb46b536d57b823a3442c116f67cbf")
