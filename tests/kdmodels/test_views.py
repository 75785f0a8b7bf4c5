"""`augment` and `knowledge` of an experiment file: one normal form, and errors that name item, value and choices."""

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from kdmodels.experiment import Data, Experiment
from kdmodels.views import OPERATIONS, Storage

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


def test_every_operation_is_written_as_in_the_file() -> None:
    assert data(ALL).model_dump(mode="json")["augment"] == ALL
    assert data([{"randaugment": {}}]) == data([{"randaugment": {"operations": 2, "magnitude": 9}}])
    assert list(OPERATIONS) == ["jitter", "crop", "flip", "randaugment", "mixup", "cutmix"]
    assert hash(data(ALL)) == hash(data(ALL))


@pytest.mark.parametrize(
    ("augment", "place", "line"),
    [
        ([{"jiter": 2}], (0,), "'jiter' is not an augmentation; did you mean 'jitter'?"),
        (["flip"], (0,), "'flip' is not one name with its argument, as {jitter: 2}"),
        ([{"jitter": 2, "crop": 2}], (0,), '{"jitter": 2, "crop": 2} is not one name with its argument'),
        ([{"jitter": 0}], (0, "jitter"), "0 is out of range (allowed: 1 to 512)"),
        ([{"jitter": 1.5}], (0, "jitter"), "1.5 is not a whole number"),
        ([{"flip": False}], (0, "flip"), "false is not known; allowed: true"),
        ([{"flip": 1}], (0, "flip"), "1 is not known; allowed: true"),
        ([{"randaugment": {"magnitude": 31}}], (0, "randaugment", "magnitude"), "31 is out of range"),
        ([{"mixup": 0}], (0, "mixup"), "0 is out of range (allowed: above 0"),
        ([{"crop": 4}, {"flip": True}, {"crop": 4}], (2,), "crop stands twice; allowed: each once"),
        ([{"mixup": 0.2}, {"cutmix": 1}], (1,), "cutmix comes after mixup; allowed: one of mixup and cutmix, as the"),
        ([{"mixup": 0.2}, {"flip": True}], (1,), "flip comes after mixup; allowed: one of mixup and cutmix, as the"),
    ],
)
def test_a_mistake_is_named_where_it_stands(augment: Any, place: tuple[Any, ...], line: str) -> None:
    with pytest.raises(ValidationError) as error:
        data(augment)
    (told,) = error.value.errors()
    assert told["loc"] + told["ctx"]["path"] == ("augment", *place)
    assert told["msg"].startswith(line)


@pytest.mark.parametrize("good", [ALL, [], [{"cutmix": 1}]])
def test_the_form_s_schema_takes_what_is_right(good: Any) -> None:
    jsonschema.validate({**FILE, "data": {"source": "mnist", "augment": good}}, form())


@pytest.mark.parametrize(
    "bad",
    [{"jitter": 1}, [{"jitter": 0}], [{"jiter": 1}], [{"jitter": 1, "crop": 1}], ["flip"], [{"flip": False}], [{}],
     [{"mixup": "much"}], [{"randaugment": {"magnitude": 31}}]],
)  # fmt: skip
def test_the_form_s_schema_refuses_what_is_wrong(bad: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**FILE, "data": {"source": "mnist", "augment": bad}}, form())


def form() -> dict[str, Any]:
    schema = Experiment.model_json_schema()
    del schema["properties"]["variants"]  # a list of names there is the file's shorthand
    return schema | {"additionalProperties": True}


@pytest.mark.parametrize(
    ("written", "size"),
    [("2GB", 2_000_000_000), ("1.5 MB", 1_500_000), ("10kB", 10_000), ("10KB", 10_000), (0, 0), (12345, 12345)],
)
def test_a_budget_is_a_size_or_a_number_of_bytes(written: Any, size: int) -> None:
    storage = Storage.model_validate({"budget": written})
    assert storage.model_dump(mode="json") == {"views": "auto", "budget": size}
    assert Storage.model_validate(storage.model_dump(mode="json")) == storage
    jsonschema.validate({"budget": written}, Storage.model_json_schema())


@pytest.mark.parametrize("bad", ["2 tons", "much", "-1GB", -1, 1.5, True, None, "2"])
def test_what_is_no_size_is_refused(bad: Any) -> None:
    with pytest.raises(ValidationError, match="is not a size; allowed: such as 2GB or 500MB, or a number of bytes"):
        Storage.model_validate({"budget": bad})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"budget": bad}, Storage.model_json_schema())


@pytest.mark.parametrize("bad", [-1, 1.5, True, None, "many", "2"])
def test_what_is_no_number_of_views_is_refused(bad: Any) -> None:
    with pytest.raises(ValidationError, match="is not known; allowed: auto, or a whole number, 0 or more"):
        Storage.model_validate({"views": bad})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"views": bad}, Storage.model_json_schema())


def test_without_augmentation_there_is_one_view_or_none() -> None:
    for views in ("auto", 0, 1):
        assert Experiment.model_validate(FILE | {"knowledge": {"views": views}}).knowledge.views == views
    with pytest.raises(ValidationError, match=r"2: without data\.augment all views are the same; allowed: auto, 0, 1"):
        Experiment.model_validate(FILE | {"knowledge": {"views": 2}})
    many = FILE | {"knowledge": {"views": 2}, "data": {"source": "mnist", "augment": [{"jitter": 2}]}}
    assert Experiment.model_validate(many).knowledge.views == 2
