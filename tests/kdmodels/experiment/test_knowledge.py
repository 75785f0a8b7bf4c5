"""How much of the teacher's knowledge is stored."""

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from kdmodels.experiment import Experiment
from kdmodels.experiment.knowledge import Storage

FILE: dict[str, Any] = {
    "name": "mine",
    "data": "mnist",
    "teacher": {"network": {"mlp": [128]}, "epochs": 5},
    "student": {"network": {"mlp": [32]}, "epochs": 5},
    "variants": ["kd"],
}


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
def test_a_wrong_budget_is_refused(bad: Any) -> None:
    with pytest.raises(ValidationError, match="expected a size such as 2GB or 500MB, or a number of bytes, got"):
        Storage.model_validate({"budget": bad})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"budget": bad}, Storage.model_json_schema())


@pytest.mark.parametrize("bad", [-1, 1.5, True, None, "many", "2"])
def test_a_wrong_number_of_views_is_refused(bad: Any) -> None:
    with pytest.raises(ValidationError, match="expected auto or a whole number of at least 0, got"):
        Storage.model_validate({"views": bad})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"views": bad}, Storage.model_json_schema())


def test_without_augmentation_more_than_one_view_is_refused() -> None:
    for views in ("auto", 0, 1):
        assert Experiment.model_validate(FILE | {"knowledge": {"views": views}}).knowledge.views == views
    with pytest.raises(ValidationError, match=r"2 views are identical without data\.augment\. Allowed: auto, 0, 1"):
        Experiment.model_validate(FILE | {"knowledge": {"views": 2}})
    many = FILE | {"knowledge": {"views": 2}, "data": {"source": "mnist", "augment": [{"jitter": 2}]}}
    with pytest.raises(ValidationError, match=r"2 views are identical without student\.augment\. Allowed: auto, 0, 1"):
        Experiment.model_validate(many | {"student": FILE["student"] | {"augment": []}})
    assert Experiment.model_validate(many).knowledge.views == 2
