"""One normal form for every spelling; it validates to itself and to its own JSON schema."""

import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.data import Data
from kdmodels.experiment.experiment import Experiment
from kdmodels.experiment.network import Network
from kdmodels.experiment.recipe import Student, Teacher
from kdmodels.experiment.requirements import BOUNDS, Require

SHORT: dict[str, Any] = {
    "name": "mine",
    "data": "mnist",
    "teacher": {"network": {"mlp": [128, 64]}, "epochs": 5},
    "student": {"network": {"mlp": [32]}, "epochs": 5},
    "variants": ["kd"],
}
PLAIN = {"weight": 1.0, "warmup": 0.0, "cosine": False, "at": None, "hyperparameters": {}}
SCHEMA = jsonschema.Draft202012Validator(Experiment.model_json_schema())
HARD_LABELS = {"loss": "hard_labels", **PLAIN}
RECIPE = {
    "epochs": 5,
    "batch": 64,
    "init": None,
    "optimizer": {"adam": {"lr": 0.001}},
    "decay_norms": False,
    "schedule": None,
    "clip": None,
    "max_norm": None,
    "ema": None,
    "balance": None,
    "precision": "float32",
    "compile": False,
    "select": "last",
    "patience": None,
}


def test_the_defaults() -> None:
    assert Experiment.model_validate(SHORT | {"variants": []}).model_dump(mode="json") == {
        "name": "mine",
        "seed": 0,
        "threads": None,
        "device": "auto",
        "recipe": None,
        "data": {
            "source": "mnist",
            "size": None,
            "normalise": None,
            "validation": None,
            "folds": None,
            "subset": None,
            "labelled": None,
            "validate_every": 1,
            "augment": [],
            "transfer": None,
            "skip": False,
            "strict": False,
        },
        "teacher": {
            **RECIPE,
            "label_smoothing": 0.0,
            "network": {"mlp": [128, 64], "dropout": 0.0},
            "checkpoint": None,
            "key": None,
            "prefix": None,
            "registry": None,
            "augment": None,
            "normalise": None,
            "size": None,
            "data": None,
            "ensemble": [],
        },
        "student": {**RECIPE, "network": {"mlp": [32], "dropout": 0.0}, "seeds": 3, "augment": None},
        "knowledge": {"views": "auto", "budget": 2_000_000_000},
        "variants": [
            {"name": "hard-labels", "terms": [HARD_LABELS], "student": None, "equal_steps": False, "grid": None}
        ],
        "tune": None,
        "metrics": [],
        "rank_by": "accuracy",
        "promote": {
            "model": "mine-student",
            "margin": 0.002,
            "require": {**dict.fromkeys(BOUNDS), "metrics": {}},
            "looks": 365,
            "approval": False,
            "licence": None,
            "report": [],
        },
        "runner": {"kind": "auto", "workers": None, "address": None, "gpus_per_student": None},
        "schedule": None,
        "notify": None,
        "allow_code": [],
    }


def test_null_stands_for_the_default() -> None:
    whole = SHORT | {
        "variants": [{"name": "mine", "terms": "kd", "student": None}],
        "promote": {"require": {"latency_ms": None, "class_accuracy": None}},
        "runner": {"kind": "auto", "workers": None, "address": None, "gpus_per_student": None},
    }
    assert Experiment.model_validate(whole).promote == Experiment.model_validate(SHORT).promote


def test_bounds_are_spelled_one_way() -> None:
    require = Require(accuracy=">=0.95 ", file_mb=" <=  1.5e0", latency_ms="<=5", class_accuracy=" >= .8", ece="<=.1")
    assert require.model_dump() == {
        "accuracy": ">= 0.95",
        "parameters": None,
        "file_mb": "<= 1.5e0",
        "latency_ms": "<= 5",
        "class_accuracy": ">= .8",
        "ece": "<= .1",
        "agreement": None,
        "metrics": {},
    }


def test_it_is_frozen() -> None:
    experiment = Experiment.model_validate(SHORT)
    with pytest.raises(ValidationError, match="frozen"):
        experiment.seed = 1  # type: ignore[misc]


def test_an_experiment_can_be_built_in_python() -> None:
    experiment = Experiment(
        name="mine",
        data=Data(source="mnist"),
        teacher=Teacher(network=Network(mlp=[128, 64]), epochs=5),
        student=Student(network=Network(mlp=[32]), epochs=5),
        variants=[],
    )
    assert experiment == Experiment.model_validate(SHORT | {"variants": []})


NUMBERS = st.floats(min_value=1e-6, max_value=1e6)
TEMPERATURES = st.floats(min_value=1e-6, max_value=1e6, exclude_max=True)
TERMS = st.sampled_from(["hard_labels", "label_smoothing", "logit_regression"]).flatmap(
    lambda loss: st.sampled_from([loss]) | NUMBERS.map(lambda weight: {loss: weight})
)
EXPERIMENTS = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][a-z ._+=-]{0,20}[a-z]", fullmatch=True),
        "data": st.sampled_from(
            [
                "digits",
                "./photos",
                "mine:load",
                {"source": "mnist", "validation": 0.5, "size": 32},
                {"source": "photos.zip", "validation": "holdout", "size": [32, 48], "transfer": {"unlabelled": "more"}},
                {"source": "mnist", "transfer": {"classes": [7, "8"]}},
                {"source": "mnist", "labelled": 500, "transfer": {"unlabelled": "rest", "count": 50, "classes": [1]}},
            ]
        ),
        "teacher": st.just(SHORT["teacher"]),
        "student": st.fixed_dictionaries(
            {"network": st.lists(st.integers(1, 99), min_size=1).map(lambda mlp: {"mlp": mlp}), "epochs": st.just(9)},
            optional={
                "optimizer": NUMBERS.map(lambda lr: {"adamw": {"lr": lr, "betas": [0.5, 0.9], "amsgrad": True}}),
                "schedule": st.sampled_from(
                    [
                        {"cosine": {"warmup": 2}},
                        {"step": {"at": [3, 5]}},
                        {"step": {"at": [3], "warmup": 1}},
                        {"constant": {"warmup": 1}},
                        {"one_cycle": {"rise": 0.5}},
                    ]
                ),
                "clip": st.sampled_from([None, 1, 0.5]),
                "max_norm": st.sampled_from([None, 2, 0.5]),
                "ema": st.sampled_from([None, 0.999]),
                "balance": st.sampled_from([None, "weights", "sampling"]),
                "precision": st.sampled_from(["float32", "bfloat16"]),
            },
        ),
        "variants": st.lists(TEMPERATURES, unique=True, max_size=3).map(
            lambda grid: [{"kd": {"temperature": t}} for t in grid]
        )
        | TERMS.map(lambda term: [{"name": "x", "terms": [term, {"hint": {"at": ["last", "a.b"]}}]}]),
    },
    optional={
        "promote": st.sampled_from([{"margin": 0}, {"require": {"accuracy": ">= 1"}}, {"model": "other"}]),
        "schedule": st.sampled_from([{"every": 5}, {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}]),
    },
)


@given(EXPERIMENTS)
def test_the_normal_form_validates_to_itself_and_to_its_schema(raw: dict[str, Any]) -> None:
    experiment = Experiment.model_validate(raw)
    normal = experiment.model_dump(mode="json")
    assert Experiment.model_validate(normal) == experiment
    assert Experiment.model_validate(normal).model_dump(mode="json") == normal
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment
    SCHEMA.validate(normal)


@pytest.mark.parametrize(("path", "value"), [
    (("student", "network"), {"name": "resnet21"}),
    (("student", "network"), {"module": "no place"}),
    (("student", "network"), {"resnet": 20}),
    (("student", "network"), {"compact": {"block": "fires", "budget": None}}),
    (("student", "network"), {"compact": {"block": "fire", "width": 6, "depth": 4}}),
    (("student", "network"), {"compact": {"block": "fire", "budget": {"parameters": 0}}}),
    (("seed",), -1),
    (("data", "validation"), 1),
    (("data", "source"), "cifar"),
    (("data", "validation"), ""),
    (("data", "size"), [0, 8]),
    (("data", "size"), [8]),
    (("data", "transfer"), {}),
    (("data", "transfer"), {"classes": []}),
    (("data", "labelled"), 0),
    (("data", "validate_every"), 0),
    (("student", "epochs"), 0),
    (("student", "epohcs"), 3),
    (("student", "optimizer"), {"adma": {}}),
    (("student", "select"), "best"),
    (("student", "schedule"), {"two_cycle": {}}),
    (("student", "clip"), 0),
    (("student", "ema"), 1),
    (("student", "balance"), "both"),
    (("student", "precision"), "float16"),
    (("student", "compile"), "yes"),
    (("student", "patience"), 0),
    (("student", "label_smoothing"), 0.1),
    (("teacher", "label_smoothing"), 1),
    (("device",), "tpu"),
    (("variants", 0, "terms", 0, "loss"), "hard-labels"),
    (("promote", "require", "accuracy"), "0.9"),
    (("runner", "kind"), "spark"),
])  # fmt: skip
def test_the_schema_alone_rejects_bad_input(path: tuple[Any, ...], value: object) -> None:
    """Prefect's server knows only the schema."""
    normal = Experiment.model_validate(SHORT).model_dump(mode="json")
    target: Any = normal
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(normal)


def test_every_field_of_the_form_is_described() -> None:
    schema = Experiment.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    undescribed = [
        f"{part['title']}.{name}"
        for part in parts
        for name, field in part["properties"].items()
        if "description" not in field and "$ref" not in field
    ]
    assert undescribed == []
    assert schema["$defs"]["Term"]["properties"]["loss"]["anyOf"][0]["enum"] == list(LOSSES)


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, kdmodels.experiment.file, kdmodels.experiment.presets, flows.experiments\n"
        "print([name for name in ('torch', 'mlflow', 'prefect', 'pandas', 'numpy', 'sklearn') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_teacher_and_student_may_have_augmentations_of_their_own() -> None:
    jitter, flip = [{"jitter": 2}], [{"flip": True}]
    shared = SHORT | {"data": {"source": "mnist", "augment": jitter}}
    of = Experiment.model_validate(shared)
    assert of.student_augment == of.teacher_augment(of.teacher) == of.data.augment
    own = Experiment.model_validate(shared | {"student": SHORT["student"] | {"augment": []}})
    assert (own.student_augment, own.teacher_augment(own.teacher)) == ((), own.data.augment)
    own = Experiment.model_validate(shared | {"teacher": SHORT["teacher"] | {"augment": flip}})
    (operation,) = own.teacher_augment(own.teacher)
    assert (own.student_augment, operation.model_dump()) == (own.data.augment, {"flip": True})
    assert Experiment.model_validate(own.model_dump(mode="json")) == own
