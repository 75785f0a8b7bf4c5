"""Published recipes fill in the fields that a file leaves out."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.experiment import Experiment

SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
MOBILE = SGD | {"lr": 0.01}
STEPS = {"at": [150, 180, 210], "factor": 0.1, "warmup": 0}


def experiment(**fields: Any) -> Experiment:
    short: dict[str, Any] = {
        "name": "mine",
        "data": "cifar100",
        "recipe": "cifar-repdistiller",
        "teacher": {"network": "resnet32x4"},
        "student": {"network": "resnet8x4"},
        "variants": [],
    }
    return Experiment.model_validate(short | fields)


def places(made: Experiment, name: str) -> list[tuple[str, str]]:
    (variant,) = [variant for variant in made.variants if variant.name == name]
    return variant.terms[1].pairs


def test_the_settings_of_the_recipe() -> None:
    made = experiment()
    assert made.data.model_dump(mode="json")["augment"] == [{"crop": 4}, {"flip": True}]
    for network in (made.teacher, made.student):
        assert (network.epochs, network.batch, network.decay_norms, network.init) == (240, 64, True, "fan_out")
        assert (network.optimizer, network.schedule) == ({"sgd": SGD}, {"step": STEPS})
    assert made.recipe is None
    assert Experiment.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(("network", "rate", "init"), [
    ("mobilenetv2", MOBILE, "fan_out"), ("shufflenetv1", MOBILE, None), ("shufflenetv2", MOBILE, None),
    ("vgg8", SGD, "fan_out"), ({"mlp": [8]}, SGD, None), ({"torchvision": "resnet18"}, SGD, None),
], ids=str)  # fmt: skip
def test_rate_and_initialisation_depend_on_the_network(network: object, rate: Any, init: str | None) -> None:
    for made in (experiment(student={"network": network}),
                 experiment(variants=[{"name": "other", "terms": "kd", "student": {"network": network}}])):  # fmt: skip
        student = made.student_of(made.variants[-1])
        assert (student.optimizer, student.init) == ({"sgd": rate}, init)


def test_fields_of_the_file_come_first() -> None:
    student = {"network": "shufflenetv1", "epochs": 24, "optimizer": {"adam": {"lr": 0.1}}, "init": None}
    made = experiment(
        data={"source": "cifar100", "augment": []},
        student=student,
        variants=[{"nst": {"weight": [1, 2]}}, {"name": "hint", "terms": [{"hint": {"weight": 3}}]},
                  {"name": "small", "terms": "kd", "student": {"network": "resnet8"}}],
    )  # fmt: skip
    assert made.data.augment == ()
    assert (made.student.epochs, made.student.optimizer) == (24, {"adam": {"lr": 0.1}})
    assert made.student.schedule == {"step": STEPS | {"at": [15, 18, 21]}}
    by_name = {variant.name: variant for variant in made.variants}
    assert by_name["nst-weight=1"].terms[1].pairs == [("deepest", "deepest")]
    assert by_name["hint"].terms[0].hyperparameters == {}
    assert made.student_of(by_name["small"]).optimizer == {"adam": {"lr": 0.1}}
    assert experiment(student={"network": "resnet8", "epochs": 1}).student.schedule == {"step": STEPS | {"at": [1]}}


def test_presets_have_published_weights_and_places() -> None:
    made = experiment(variants=["kd", "hint", "attention", "nst", "vid", "fsp", "similarity", "dkd"])
    weights = {variant.name: [term.weight for term in variant.terms] for variant in made.variants}
    assert weights == {
        "hard-labels": [1], "kd": [0.1, 0.9], "hint": [1, 100], "attention": [1, 1000], "nst": [1, 50], "vid": [1, 1],
        "fsp": [1, 50], "similarity": [1, 3000], "dkd": [1, 1],
    }  # fmt: skip
    stages = [("block1",) * 2, ("block2",) * 2, ("block3",) * 2]
    assert places(made, "attention") == places(made, "nst") == places(made, "vid") == stages
    assert places(made, "fsp") == [("stem", "stem"), *stages]  # three pairs of consecutive maps
    assert places(made, "hint") == [("block2", "block2")]
    (hint,) = [variant for variant in made.variants if variant.name == "hint"]
    assert hint.terms[1].hyperparameters == {"activation": "relu"}
    (dkd,) = [variant for variant in made.variants if variant.name == "dkd"]
    assert dkd.terms[1].warmup == 20 / 240


def test_places_of_two_families() -> None:
    made = experiment(teacher={"network": "vgg13"}, student={"network": "mobilenetv2"}, variants=["nst", "fsp", "hint"])
    stages = [(f"block{number}", f"block{number + 1}") for number in (1, 2, 3, 4)]
    assert places(made, "nst") == stages
    assert places(made, "fsp") == [("stem.0", "block1"), *stages]
    assert places(made, "hint") == [("block2", "block3")]
    for teacher in ({"network": "vgg13"}, {"registry": "big"}):  # of four stages, or unknown ones
        made = experiment(teacher=teacher, variants=["nst", "hint"])
        assert places(made, "nst") == [("first", "first"), ("middle", "middle"), ("deepest", "deepest")]
        assert places(made, "hint") == [("middle", "middle")]


def test_a_teacher_that_is_not_trained_here_has_no_training() -> None:
    trained = {"checkpoint": "t.pth", "network": "resnet32x4"}
    assert experiment(teacher=trained).teacher.epochs == 0
    members = experiment(teacher=[trained, {"network": "vgg13", "batch": 128}, {"registry": "big"}]).teacher.members
    assert [(member.epochs, member.batch) for member in members] == [(0, 64), (240, 128), (0, 64)]


def test_an_unknown_recipe_is_refused_and_other_mistakes_keep_their_messages() -> None:
    with pytest.raises(ValidationError, match=r"unknown recipe 'cifar'\. .*Allowed: cifar-repdistiller"):
        experiment(recipe="cifar")
    with pytest.raises(ValidationError, match=r"teacher\n.*Field required"):
        Experiment.model_validate({"name": "mine", "data": "mnist", "recipe": "cifar-repdistiller", "student": {}})
    with pytest.raises(ValidationError, match="valid integer"):
        experiment(student={"network": "resnet8", "epochs": "many"})


@pytest.mark.parametrize("network", [{"mlp": [8]}, {"torchvision": "resnet18"}, "nets:Small"], ids=str)
def test_an_initialisation_without_effect_is_refused(network: object) -> None:
    for field in ("student", "teacher"):
        with pytest.raises(ValidationError, match=r"'fan_out' needs a network of kdflow with convolutions"):
            experiment(recipe=None, **{field: {"network": network, "epochs": 1, "init": "fan_out"}})
