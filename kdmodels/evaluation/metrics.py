"""Metrics of logits: those of torchmetrics, and functions of the user."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from math import isfinite
from numbers import Real
from types import ModuleType

import torch
from torch import Tensor

from kdmodels.errors import UserError, allowed
from kdmodels.experiment.metrics import is_users
from kdmodels.networks.source import sources_of_code
from kdmodels.randomness import generator_for
from kdmodels.user_imports import errors_of_user, import_code

FIELD = "metrics"
EXAMPLES = 8  # number of random examples of each class in a trial

Values = Callable[[Tensor, Tensor], float]
"""Function that computes a metric from the logits (N, K) and the labels (N,)."""


def metric_of(name: str, classes: Sequence[str]) -> Values:
    """Return the function that computes a metric.

    Args:
        name: The name of the metric, as in the experiment file.
        classes: The names of the K classes.

    Raises:
        UserError: The data do not have the class or the number of classes that the metric needs.
        UsageError: The user's function can't be imported, does not exist, or is not allowed to run.
    """
    if is_users(name):
        return partial(_of_user, name, import_code(FIELD, name))
    count = len(classes)
    kind, _, argument = name.partition("_")
    if kind == "top":
        if int(argument) > count:
            raise UserError(f"{FIELD}: {name}: the data have {count} classes. Allowed: top_1 to top_{count}")
        return partial(_top, int(argument))
    if kind == "recall":
        if argument not in classes:
            names = [f"recall_{known}" for known in classes]
            raise UserError(f"{FIELD}: {name}: the data have no class {argument!r}. {allowed(name, names)}")
        return partial(_recall, classes.index(argument))
    return {"macro_f1": _macro_f1, "auroc": _auroc}[name]


def measure(metrics: Iterable[str], logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return the value of each metric, by name.

    Args:
        metrics: The names of the metrics, as in the experiment file.
        logits: The logits of N examples for K classes, (N, K).
        labels: The index of the true class of each example, (N,).
        classes: The names of the K classes.

    Raises:
        UserError: A value is infinite or NaN. For other errors, see `metric_of`.
    """
    values = {name: metric_of(name, classes)(logits.clone(), labels.clone()) for name in metrics}
    for name, value in values.items():
        if not isfinite(value):
            raise UserError(f"{FIELD}: {name} is {value} for {len(labels)} examples. Allowed: a finite number")
    return values


def check(metrics: Iterable[str], classes: Sequence[str]) -> None:
    """Compute each metric twice for the same random logits, with examples of all classes, and compare the values.

    Raises:
        UserError: A metric can't be computed, is infinite or NaN, or depends on anything other than its arguments. For
            other errors, see `metric_of`.
    """
    labels = torch.arange(len(classes)).repeat(EXAMPLES)
    logits = torch.randn(len(labels), len(classes), generator=generator_for(0, "metrics"))
    for name, value in measure(metrics, logits, labels, classes).items():
        again = measure([name], logits, labels, classes)[name]
        if again != value:
            raise UserError(f"{FIELD}: {name} is {value} and then {again} for the same logits. Allowed: equal values")


def version_of(name: str) -> dict[str, str]:
    """Return the versions of the code that computes a metric, by the name of the module or library.

    Raises:
        UserError: See `sources_of_code`.
    """
    return sources_of_code(FIELD, name) if is_users(name) else {"torchmetrics version": version("torchmetrics")}


def _of_user(name: str, function: Callable[[Tensor, Tensor], object], logits: Tensor, labels: Tensor) -> float:
    with errors_of_user(FIELD, name):
        value = function(logits, labels)
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, Real):
        raise UserError(f"{FIELD}: {name}: expected a number, got a {type(value).__name__}. Allowed: a float")
    return float(value)


def _macro_f1(logits: Tensor, labels: Tensor) -> float:
    return float(_torchmetrics().multiclass_f1_score(logits, labels, logits.shape[1], average="macro").item())


def _top(count: int, logits: Tensor, labels: Tensor) -> float:
    return float(
        _torchmetrics().multiclass_accuracy(logits, labels, logits.shape[1], average="micro", top_k=count).item()
    )


def _recall(index: int, logits: Tensor, labels: Tensor) -> float:
    """Return the recall of one class. Without examples of this class, return NaN, where torchmetrics returns 0."""
    if not (labels == index).any():
        return float("nan")
    return float(_torchmetrics().multiclass_recall(logits, labels, logits.shape[1], average=None)[index])


def _auroc(logits: Tensor, labels: Tensor) -> float:
    """Return the mean over classes of the area under the ROC curve, each class against the rest.

    Classes without examples are left out. torchmetrics would count their area as 0.
    """
    # In float32, large logits would become equal probabilities.
    areas = _torchmetrics().multiclass_auroc(logits.double().softmax(dim=1), labels, logits.shape[1], average=None)
    return float(areas[labels.unique()].mean())


def _torchmetrics() -> ModuleType:
    """Return torchmetrics' functions for classification. They are imported only if an experiment names metrics."""
    from torchmetrics.functional import classification  # noqa: PLC0415 - imports Matplotlib, which takes about 1 s

    return classification
