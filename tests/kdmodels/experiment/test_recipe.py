"""Training recipes, teachers and their ensembles."""

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from kdmodels.experiment.experiment import Experiment, Student, Teacher

SHORT: dict[str, Any] = {
    "name": "mine",
    "data": "mnist",
    "teacher": {"network": {"mlp": [128, 64]}, "epochs": 5},
    "student": {"network": {"mlp": [32]}, "epochs": 5},
    "variants": ["kd"],
}


@pytest.mark.parametrize("teacher", [
    {"checkpoint": "t.safetensors", "network": {"mlp": [8]}, "normalise": "imagenet", "size": 224},
    {"network": {"mlp": [8]}, "epochs": 1, "augment": [{"jitter": 2}], "data": {"source": "digits"}},
    {"registry": "big@champion"},
    {"network": {"mlp": [8]}, "epochs": 1, "schedule": {"step": {"at": [1]}}, "select": "best-validation"},
])  # fmt: skip
def test_every_origin_of_a_teacher_round_trips(teacher: dict[str, Any]) -> None:
    first = Teacher.model_validate(teacher)
    assert Teacher.model_validate(first.model_dump(mode="json")) == first


def test_an_optimizer_of_ones_own_keeps_its_arguments() -> None:
    optimizer = {"mine.optim:Lion": {"lr": 1, "betas": [0.9, 0.99], "steps": 2, "mode": "fast", "decay": True}}
    student = Student.model_validate(SHORT["student"] | {"optimizer": optimizer})
    assert student.optimizer == optimizer
    assert isinstance(student.lr, float)
    kinds = {name: type(value) for name, value in student.optimizer["mine.optim:Lion"].items()}
    assert kinds == {"lr": float, "betas": list, "steps": int, "mode": str, "decay": bool}
    assert student.with_lr(0.5).optimizer["mine.optim:Lion"]["lr"] == 0.5
    assert Student.model_validate_json(student.model_dump_json()) == student


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"mine:Lion": {}}, "missing. Expected a number above 0"),
        ({"mine:Lion": {"lr": 0}}, "expected a number above 0, got 0"),
        ({"mine:Lion": {"lr": True}}, "expected a number above 0, got true"),
        ({"mine:Lion": 0.1}, "expected a mapping with lr, such as {lr: 0.01}, got 0.1"),
        ({"my-mine:Lion": {"lr": 1}}, "unknown optimizer 'my-mine:Lion'"),
    ],
)
def test_an_optimizer_of_ones_own_needs_a_rate(optimizer: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Student.model_validate(SHORT["student"] | {"optimizer": optimizer})
    assert message in str(caught.value)


def test_arguments_of_an_optimizer_are_kept_as_written_and_the_rate_is_always_there() -> None:
    student = Student.model_validate(SHORT["student"] | {"optimizer": {"sgd": {"momentum": 0.9, "nesterov": True}}})
    assert student.optimizer == {"sgd": {"lr": 0.001, "momentum": 0.9, "nesterov": True}}


@pytest.mark.parametrize("teacher", [
    {"registry": "big/3"}, {"checkpoint": "t.pt", "network": "resnet20"}, [SHORT["teacher"], {"registry": "big"}],
    {"ensemble": [{"registry": "a"}, {"registry": "b"}]},
], ids=str)  # fmt: skip
def test_every_kind_of_teacher_has_one_normal_form(teacher: object) -> None:
    experiment = Experiment.model_validate(SHORT | {"teacher": teacher})
    normal = experiment.model_dump(mode="json")
    assert Experiment.model_validate(normal) == experiment
    jsonschema.validate(normal, Experiment.model_json_schema())


def test_only_logits_are_compared_with_an_ensemble() -> None:
    two = {"teacher": [{"registry": "a"}, {"registry": "b"}]}
    assert Experiment.model_validate(SHORT | two).teacher.members[1].registry == "b"
    with pytest.raises(ValidationError, match=r"kd\+hint compares features, which the members of an ensemble do not"):
        Experiment.model_validate(SHORT | two | {"variants": ["kd", "kd+hint"]})
    with pytest.raises(ValidationError, match=r"belongs to each member of the ensemble\. Remove this field"):
        Teacher.model_validate({"ensemble": two["teacher"], "batch": 8})


@pytest.mark.parametrize(("teacher", "message"), [
    ({"checkpoint": "t.pt", "network": "resnet20", "augment": []}, "has no effect on a teacher that is trained alr"),
    ({"registry": "big", "data": {"source": "digits"}}, "has no effect on a teacher that is trained already. Remove"),
    ({"registry": "big", "normalise": "imagenet"}, "conflicts with registry: the registered model has a norma"),
    ({"registry": "big", "size": 32}, "conflicts with registry: the registered model has a size of its own."),
])  # fmt: skip
def test_fields_without_effect_are_refused(teacher: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Teacher.model_validate(teacher)
