"""Before anything trains, every objective is tried on the networks as they will be built."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdmodels.data import load_dataset
from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment
from tasks.plan import _common, check_objectives, digest, flatten, make_plan, sized
from tasks.references import DataReference

DATA = Data(source="digits")


@pytest.fixture(scope="module")
def data() -> DataReference:
    dataset = load_dataset(DATA)
    return DataReference(
        data=DATA, folder=None, digest=dataset.digest, training_digest=dataset.training_digest, examples={},
        input_shape=dataset.input_shape, classes=dataset.classes, mean=dataset.mean, std=dataset.std,
    )  # fmt: skip


def experiment(*variants: object, batch: int = 64, **fields: object) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "tried",
            "data": "digits",
            "teacher": {"network": {"mlp": [16, 8]}, "epochs": 1},
            "student": {"network": {"mlp": [4, 3]}, "epochs": 1, "batch": batch},
            "variants": list(variants),
            **fields,
        }
    )


def test_what_an_objective_leaves_untrained_is_told(data: DataReference) -> None:
    alone = {"name": "alone", "terms": [{"similarity_preserving": {"at": "middle"}}]}
    assert check_objectives(experiment("kd", alone), data)[0] == [
        "", "", "no term reaches the last layer: a linear probe, fitted on the labels; "
        "untrained: block2.linear.weight, block2.linear.bias"]  # fmt: skip


@pytest.mark.parametrize(
    ("terms", "batch", "line"),
    [
        (["hard_labels", {"hint": {"at": {"student": "first", "teacher": "block9"}}}], 64,
         r"^variant x: of the teacher, at: 'block9': the network has no such module; did you mean 'block2'\?"),
        (["hard_labels", {"hint": {"at": {"student": "block9", "teacher": "first"}}}], 64,
         "^variant x: at: 'block9': the network has no such module"),
        (["hard_labels", "attention_transfer"], 64, "^variant x: attention_transfer at first, middle, deepest: "),
        (["hard_labels", {"similarity_preserving": {"at": "flatten"}}], 64,
         "^variant x: similarity_preserving at flatten: trains no parameter of the student"),
        (["hard_labels", "hint"], 1, "^variant x: batch: 1: batch norm can't learn from one example"),
    ],
)  # fmt: skip
def test_an_objective_that_can_not_work_is_refused(
    terms: list[object], batch: int, line: str, data: DataReference
) -> None:
    with pytest.raises(UserError, match=line):
        check_objectives(experiment({"name": "x", "terms": terms}, batch=batch), data)


def test_frozen_parameters_are_refused_but_in_a_teacher_that_is_not_trained(data: DataReference) -> None:
    frozen = {"network": "tests.kdmodels.networks.own:Frozen", "epochs": 1}
    line = r"the network has frozen parameters: network\.body\.weight, network\.body\.bias; allowed: all of them"
    with pytest.raises(UserError, match=f"^variant hard-labels: {line}"):
        check_objectives(experiment(student=frozen), data)
    with pytest.raises(UserError, match=f"^teacher: {line}"):
        check_objectives(experiment(teacher=frozen), data)
    read = {"network": frozen["network"], "checkpoint": "x.pt"}
    assert check_objectives(experiment("kd", teacher=read), data)[0] == ["", ""]


def test_every_checkpoint_of_an_ensemble_is_read_before_any_teacher_trains(data: DataReference, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "wrong.pt")
    wrong = {"network": {"mlp": [8]}, "checkpoint": str(tmp_path / "wrong.pt")}
    asked = experiment("kd", teacher=[{"network": {"mlp": [8]}, "epochs": 1}, wrong])
    with pytest.raises(UserError, match=r"wrong\.pt: these weights do not fit the network described: missing: block1"):
        make_plan(asked, data.model_copy(update={"examples": {"taught": 9, "validation": 1}}))


def test_a_budget_becomes_a_width_and_a_depth(data: DataReference) -> None:
    asked = experiment("kd").model_dump(mode="json")
    asked["student"]["network"] = {"compact": {"block": "depthwise", "budget": 2_000}}
    planned = sized(Experiment.model_validate(asked), data)
    compact = planned.student.network.model_dump(mode="json")["compact"]
    assert compact == {"block": "depthwise", "budget": {"parameters": 2_000}, "width": 8, "depth": 6}
    assert planned.teacher == experiment("kd").teacher
    assert sized(planned, data) == planned


def test_a_student_over_its_budget_is_refused_before_anything_trains(data: DataReference) -> None:
    asked = experiment("kd").model_dump(mode="json")
    asked["student"]["network"] = {"compact": {"block": "plain", "budget": 2_000, "width": 16, "depth": 4}}
    with pytest.raises(UserError, match=r"plain of width 16 and depth 4 has [\d,]+ parameters; allowed .* 2,000$"):
        sized(Experiment.model_validate(asked), data)


def test_a_network_that_can_not_be_served_is_refused_before_anything_trains(data: DataReference) -> None:
    """torch computes eigenvalues, and their gradient; ONNX has no operation for them."""
    spectral = {"module": "tests.kdmodels.networks.own:Spectral"}
    line = r": this network can't be written as ONNX, as served models are: .*"
    with pytest.raises(UserError, match=f"^variant hard-labels{line}$") as told:
        check_objectives(experiment("kd", student={"network": spectral, "epochs": 1}), data)
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match=f"^teacher{line}$"):
        check_objectives(experiment("kd", teacher={"network": spectral, "epochs": 1}), data)


def test_the_device_is_part_of_every_key_as_it_was_found(data: DataReference) -> None:
    found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert _common(experiment(), data)["device"] == found
    assert _common(experiment(device="cpu"), data)["device"] == "cpu"
    if found == "cpu":
        with pytest.raises(UserError, match=r"^device: cuda: this machine has none; allowed: auto, cpu$"):
            _common(experiment(device="cuda"), data)


def test_the_order_of_a_mapping_is_in_no_key() -> None:
    one = {"arguments": {"layers": [[{"width": 4, "depth": 2.5}]], "a": None, "b": True}}
    other = {"arguments": {"b": True, "a": None, "layers": [[{"depth": 2.5, "width": 4}]]}}
    assert digest(flatten(one)) == digest(flatten(other))
    assert digest(flatten(one)) != digest(flatten({"arguments": one["arguments"] | {"b": 1.0}}))


def test_the_keys_are_the_same_in_every_process_and_locale(tmp_path: Path) -> None:
    keys = []
    for number, locale in enumerate(("C", "tr_TR.UTF-8")):
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/{number}.db", "PYTHONHASHSEED": str(number + 1),
            "LC_ALL": locale, "LANG": locale, "XDG_CACHE_HOME": str(tmp_path / str(number)),
            "PYTHONUTF8": str(number),
        }  # fmt: skip
        words = ["run", "digits-losses", "--dry-run", "--json"]
        told = subprocess.run(
            [Path(sys.executable).with_name("kd"), *words], env=environment, cwd=tmp_path, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        plan = json.loads(told.stdout)
        keys.append({step["name"]: step["key"] for step in [plan["teacher"], *plan["students"]]})
    assert keys[0] == keys[1]
    assert len(set(keys[0].values())) == len(keys[0]) > 20
