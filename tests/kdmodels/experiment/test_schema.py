"""Pydantic's errors in plain words."""

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from kdmodels.experiment.schema import Part, explain, show


class Inner(Part):
    size: int = Field(default=1, ge=1, le=9)


class Outer(Part):
    epochs: int = Field(ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    rate: float | None = Field(default=None, gt=0)
    inner: Inner = Inner()


@pytest.mark.parametrize(("raw", "path", "message"), [
    ({}, ("epochs",), "missing. Expected a whole number of at least 1"),
    ({"epochs": 0}, ("epochs",), "expected a whole number of at least 1, got 0"),
    ({"epochs": "two"}, ("epochs",), "expected a whole number of at least 1, got 'two'"),
    ({"epochs": 1, "device": "cdua"}, ("device",), "unknown value 'cdua'. Did you mean 'cuda'? Allowed: cpu, cuda"),
    ({"epochs": 1, "rate": 0}, ("rate",), "expected a number above 0, or null, got 0"),
    ({"epochs": 1, "rate": float("inf")}, ("rate",), "expected a finite number, got Infinity"),
    ({"epochs": 1, "inner": {"size": 10}}, ("inner", "size"), "expected a whole number from 1 to 9, got 10"),
    ({"epochs": 1, "inner": [1]}, ("inner",), "expected a mapping, got [1]. Allowed: size"),
    ({"epoch": 1}, ("epoch",), "unknown field. Did you mean 'epochs'? Allowed: epochs, device, rate, inner"),
])  # fmt: skip
def test_a_mistake_is_one_sentence_at_its_field(raw: object, path: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Outer.model_validate(raw)
    assert [explain(detail, Outer) for detail in error.value.errors()] == [(path, message)]


def test_a_long_value_is_cut() -> None:
    assert len(show("x" * 500)) == 80
