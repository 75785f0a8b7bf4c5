"""The `metrics` field of the experiment file: metrics that are measured beside the accuracy."""

import re
from collections.abc import Collection
from typing import Literal

from pydantic import Field, field_validator, model_validator

from kdmodels.errors import allowed
from kdmodels.experiment.schema import Part, is_code, mistake, show

ACCURACY = "accuracy"
"""The metric that is always measured, and that ranks students by default."""

NAMES = ("macro_f1", "auroc", "top_K", "recall_CLASS")
"""The metrics of the catalogue. In a file, K is a number, and CLASS is the name of a class."""

KNOWN = re.compile(r"macro_f1|auroc|top_[1-9][0-9]{0,5}|recall_.+")


class Metric(Part):
    """A metric of a student's predictions.

    An experiment file can use two shorthands: the name of the metric, e.g. `macro_f1`, and `{name: lower}` for a metric
    whose lower values are better, e.g. `{"mymetrics:cost": lower}`.

    >>> Metric.model_validate({"mymetrics:cost": "lower"})
    Metric(name='mymetrics:cost', better='lower')
    """

    name: str = Field(description="macro_f1, auroc, top_K, recall_CLASS, or a function of yours: module:function.")
    better: Literal["higher", "lower"] = Field(default="higher", description="Which values are better.")

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthand(cls, raw: object) -> object:
        if isinstance(raw, str):
            return {"name": raw}
        if isinstance(raw, dict) and "name" not in raw and len(raw) == 1:
            ((name, better),) = raw.items()
            return {"name": name, "better": better}
        return raw

    @field_validator("name", mode="after")
    @classmethod
    def _require_known(cls, name: str) -> str:
        if not is_metric(name):
            raise mistake(f"unknown metric {show(name)}. {allowed(name, [*NAMES, 'module:function'])}")
        return name

    @property
    def is_users(self) -> bool:
        """Whether the metric is a function of the user."""
        return is_users(self.name)

    @property
    def title(self) -> str:
        """The name for tables. A user's metric has the name of its function."""
        return self.name.rpartition(":")[2] if self.is_users else self.name

    def merit(self, value: float) -> float:
        """Return a number that is higher for better values of the metric."""
        return value if self.better == "higher" else -value


def is_users(name: str) -> bool:
    """Return whether a metric is a function of the user, named as `module:function`.

    The name of a class can contain a colon, so a name such as `recall_a:b` is a metric of the catalogue.
    """
    return ":" in name and KNOWN.fullmatch(name) is None


def is_metric(name: str) -> bool:
    """Return whether a name is the name of a metric. Whether a user's function exists is checked later.

    >>> is_metric("top_5"), is_metric("recall_cat"), is_metric("mymetrics:cost"), is_metric("top_x")
    (True, True, True, False)
    """
    if not is_users(name):
        return KNOWN.fullmatch(name) is not None
    return is_code(name)


def check_metrics(metrics: Collection[Metric], rank_by: str, required: Collection[str]) -> None:
    """Check the metrics of an experiment, and the names in `rank_by` and `promote.require`.

    Args:
        metrics: The metrics that are measured.
        rank_by: The metric that ranks the students.
        required: The metrics for which `promote.require` has a bound.

    Raises:
        PydanticCustomError: A metric appears twice, or a metric is used that is not measured.
    """
    names = [metric.name for metric in metrics]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise mistake(f"{name} appears twice. Each metric may appear only once", "metrics", index)
    if rank_by != ACCURACY and rank_by not in names:
        raise mistake(f"{show(rank_by)} is not measured. {allowed(rank_by, [ACCURACY, *names])}", "rank_by")
    for name in required:
        if name not in names:
            raise mistake(f"{name} is not in metrics. {allowed(name, names)}", "promote", "require", name)
