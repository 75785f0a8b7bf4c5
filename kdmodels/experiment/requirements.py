"""The field `promote.require` of the experiment file: bounds that a model must meet before it is promoted."""

import re
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kdmodels.experiment.metrics import is_metric
from kdmodels.experiment.schema import Part, mistake, show

NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"  # this regular expression matches in linear time
LONGEST_BOUND = 100  # characters


BOUNDS = {  # the comparison sign of each requirement, and an example of a bound
    "accuracy": (">=", "0.95"),
    "parameters": ("<=", "60000"),
    "file_mb": ("<=", "1.5"),
    "latency_ms": ("<=", "5"),
    "class_accuracy": (">=", "0.8"),
    "ece": ("<=", "0.05"),
    "agreement": (">=", "0.9"),
}
SHARES = ("accuracy", "class_accuracy", "ece", "agreement")


def _bound(name: str, quantity: str) -> Any:
    sign, example = BOUNDS[name]
    description = f"{quantity}, e.g. '{sign} {example}'. Default: not required."
    return Field(default=None, description=description, json_schema_extra={"pattern": f"^ *{sign} *{NUMBER} *$"})


class Require(Part):
    """Requirements that a model must meet before it is promoted."""

    accuracy: str | None = _bound("accuracy", "Lower 95 % confidence bound of the test accuracy, from 0 to 1")
    parameters: str | None = _bound("parameters", "Number of parameters")
    file_mb: str | None = _bound("file_mb", "Size of the weights' file in MB (1e6 bytes)")
    latency_ms: str | None = _bound(
        "latency_ms", "Median latency of one image in ms, on the CPU, with the run's number of threads"
    )
    class_accuracy: str | None = _bound("class_accuracy", "As `accuracy`, but for the class with the lowest bound")
    ece: str | None = _bound("ece", "Expected calibration error on the test split, from 0 to 1")
    agreement: str | None = _bound(
        "agreement", "Lower 95 % confidence bound of the share of test examples on which student and teacher agree"
    )
    metrics: dict[str, str] = Field(
        default={},
        description="Bounds on the test split for metrics that the experiment's field `metrics` names. Write them like "
        "the other requirements, e.g. macro_f1: '>= 0.9'.",
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_metrics(cls, raw: object) -> object:
        if not isinstance(raw, dict) or not isinstance(raw.get("metrics", {}), dict):
            return raw
        named = {name: bound for name, bound in raw.items() if isinstance(name, str) and is_metric(name)}
        bounds = raw.get("metrics", {}) | {name: bound for name, bound in named.items() if bound is not None}
        rest = {name: bound for name, bound in raw.items() if name not in named}
        return rest | {"metrics": {str(name): _parse_metric_bound(str(name), bound) for name, bound in bounds.items()}}

    @field_validator(*BOUNDS, mode="before")
    @classmethod
    def _parse_bound(cls, raw: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        sign, example = BOUNDS[name]
        if raw is None:
            return None
        text = raw if isinstance(raw, str) and len(raw) <= LONGEST_BOUND else ""
        match = re.fullmatch(f" *{sign} *({NUMBER}) *", text)
        if match is None or float(match[1]) == float("inf"):
            raise mistake(f"expected a bound such as '{sign} {example}', or null, got {show(raw)}")
        if name in SHARES and float(match[1]) > 1:
            raise mistake(f"expected a bound from '{sign} 0' to '{sign} 1', got {show(raw)}")
        return f"{sign} {match[1]}"


def _parse_metric_bound(name: str, raw: object) -> str:
    text = raw if isinstance(raw, str) and len(raw) <= LONGEST_BOUND else ""
    match = re.fullmatch(f" *(>=|<=) *(-?{NUMBER}) *", text)
    if match is None or abs(float(match[2])) == float("inf"):
        raise mistake(f"expected a bound such as '>= 0.9' or '<= 0.1', got {show(raw)}", name)
    return f"{match[1]} {match[2]}"
