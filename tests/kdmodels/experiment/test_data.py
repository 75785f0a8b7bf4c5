"""The data section of an experiment file."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.experiment.data import IMAGENET, Data


def test_a_source_alone_stands_for_the_whole_section() -> None:
    assert Data.model_validate("digits") == Data(source="digits")


def test_shorthands_are_expanded() -> None:
    data = Data.model_validate({"source": "./photos", "size": 32, "normalise": "imagenet"})
    assert data.size == [32, 32]
    assert data.normalise is not None
    assert data.normalise.model_dump() == IMAGENET


@pytest.mark.parametrize("section", [
    {"source": "mnits"},
    {"source": "digits", "validation": 1.0},
    {"source": "digits", "validation": "held-out"},
    {"source": "digits", "folds": 3, "validation": 0.2},
    {"source": "digits", "folds": 1},
    {"source": "digits", "size": [8]},
    {"source": "digits", "normalise": {"mean": [0.5, 0.5], "std": [1.0]}},
])  # fmt: skip
def test_contradictory_and_invalid_fields_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Data.model_validate(section)
