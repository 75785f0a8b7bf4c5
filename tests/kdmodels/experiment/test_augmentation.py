"""`augment` and `knowledge` of an experiment file: one normal form, and errors that name item, value and choices."""

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from kdmodels.experiment import Data, Experiment
from kdmodels.experiment.augmentation import OPERATIONS

FILE: dict[str, Any] = {
    "name": "mine",
    "data": "mnist",
    "teacher": {"network": {"mlp": [128]}, "epochs": 5},
    "student": {"network": {"mlp": [32]}, "epochs": 5},
    "variants": ["kd"],
}
ALL = [{"jitter": 2}, {"crop": 4}, {"flip": True}, {"randaugment": {"operations": 2, "magnitude": 9}}, {"mixup": 0.2}]


def data(augment: Any) -> Data:
    return Data.model_validate({"source": "mnist", "augment": augment})


def test_operations_keep_the_form_of_the_file() -> None:
    assert data(ALL).model_dump(mode="json")["augment"] == ALL
    assert data([{"randaugment": {}}]) == data([{"randaugment": {"operations": 2, "magnitude": 9}}])
    assert list(OPERATIONS) == ["jitter", "crop", "flip", "randaugment", "mixup", "cutmix", "own"]
    assert hash(data(ALL)) == hash(data(ALL))


def test_a_function_of_the_user_has_a_normal_form() -> None:
    own = data([{"jitter": 2}, {"my.aug:rotate": {"degrees": 15, "fast": True}}, {"my.aug:blur": None}, {"mixup": 0.2}])
    assert own.model_dump(mode="json")["augment"] == [
        {"jitter": 2},
        {"own": {"name": "my.aug:rotate", "arguments": {"degrees": 15, "fast": True}}},
        {"own": {"name": "my.aug:blur", "arguments": {}}},
        {"mixup": 0.2},
    ]
    assert Data.model_validate(own.model_dump()) == own
    assert len({own, Data.model_validate_json(own.model_dump_json())}) == 1
    assert own != data([{"my.aug:rotate": {"degrees": 16}}])


@pytest.mark.parametrize(
    ("augment", "place", "line"),
    [
        ([{"jiter": 2}], (0,), "unknown augmentation 'jiter'. Did you mean 'jitter'?"),
        ([{"my.aug:rotate": 15}], (0, "own", "arguments"), "expected a mapping, got 15"),
        ([{"my-aug:rotate": {}}], (0,), "unknown augmentation 'my-aug:rotate'"),
        ([{"a:b": {}}, {"a:b": {"c": 1}}], (1,), "a:b appears twice. Each augmentation may appear only once"),
        ([{"mixup": 1}, {"a:b": {}}], (1,), "a:b comes after mixup. Allowed: one of mixup"),
        (["flip"], (0,), "expected one name with its argument, such as {jitter: 2}, got 'flip'"),
        (
            [{"jitter": 2, "crop": 2}],
            (0,),
            'expected one name with its argument, such as {jitter: 2}, got {"jitter": 2, "crop": 2}',
        ),
        ([{"jitter": 0}], (0, "jitter"), "expected a whole number from 1 to 512, got 0"),
        ([{"jitter": 1.5}], (0, "jitter"), "expected a whole number from 1 to 512, got 1.5"),
        ([{"flip": False}], (0, "flip"), "expected true, got false"),
        ([{"flip": 1}], (0, "flip"), "expected true, got 1"),
        (
            [{"randaugment": {"magnitude": 31}}],
            (0, "randaugment", "magnitude"),
            "expected a whole number from 0 to 30, got 31",
        ),
        ([{"mixup": 0}], (0, "mixup"), "expected a number above 0"),
        (
            [{"crop": 4}, {"flip": True}, {"crop": 4}],
            (2,),
            "crop appears twice. Each augmentation may appear only once",
        ),
        ([{"mixup": 0.2}, {"cutmix": 1}], (1,), "cutmix comes after mixup. Allowed: one of mixup and cutmix, as the"),
        ([{"mixup": 0.2}, {"flip": True}], (1,), "flip comes after mixup. Allowed: one of mixup and cutmix, as the"),
    ],
)
def test_a_mistake_is_reported_at_its_field(augment: Any, place: tuple[Any, ...], line: str) -> None:
    with pytest.raises(ValidationError) as error:
        data(augment)
    (detail,) = error.value.errors()
    assert detail["loc"] + detail["ctx"]["path"] == ("augment", *place)
    assert detail["msg"].startswith(line)


@pytest.mark.parametrize("good", [ALL, [], [{"cutmix": 1}]])
def test_the_json_schema_accepts_valid_augmentations(good: Any) -> None:
    jsonschema.validate({**FILE, "data": {"source": "mnist", "augment": good}}, form())


@pytest.mark.parametrize(
    "bad",
    [{"jitter": 1}, [{"jitter": 0}], [{"jiter": 1}], [{"jitter": 1, "crop": 1}], ["flip"], [{"flip": False}], [{}],
     [{"mixup": "much"}], [{"randaugment": {"magnitude": 31}}]],
)  # fmt: skip
def test_the_json_schema_refuses_invalid_augmentations(bad: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**FILE, "data": {"source": "mnist", "augment": bad}}, form())


def form() -> dict[str, Any]:
    schema = Experiment.model_json_schema()
    del schema["properties"]["variants"]  # a list of names there is the file's shorthand
    return schema | {"additionalProperties": True}
