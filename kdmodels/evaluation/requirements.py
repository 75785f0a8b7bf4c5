"""The check of the requirements that a challenger must meet. `promote.require` in the experiment file declares them."""

from collections.abc import Iterable
from dataclasses import dataclass

from kdmodels.evaluation.candidate import Candidate
from kdmodels.experiment import Require

WORDS = {
    "accuracy": "test accuracy's lower 95% bound",
    "parameters": "the number of parameters",
    "file_mb": "the size of the weights' file in MB",
    "latency_ms": "the median time of one image in ms",
    "class_accuracy": "the lower 95% bound of its test accuracy on class",
    "ece": "the expected calibration error on test",
    "agreement": "the lower 95% bound of its agreement with the teacher on test",
}


@dataclass(frozen=True)
class Rule:
    """The result of checking a requirement, or of checking a condition for replacing the champion.

    Attributes:
        name: For a requirement, the name of the field of `promote.require`, or of the metric. For a condition, the
            condition in words.
        value: The measured value. For an accuracy or an agreement, the value is the lower end of its 95 % Wilson
            interval. The value of `file_mb` is in 10^6 bytes.
        bound: The allowed values, e.g. ">= 0.9".
        holds: Whether the value is allowed.
        about: The name of the class whose accuracy is checked. Empty for all rules except `class_accuracy`.
        note: The reason why the value cannot be measured. Empty if the value was measured.
    """

    name: str
    value: int | float
    bound: str
    holds: bool
    about: str = ""
    note: str = ""


def check_requirements(challenger: Candidate, require: Require) -> list[Rule]:
    """Check whether the challenger meets each declared requirement.

    Returns:
        One rule per declared requirement.

    Raises:
        ValueError: A declared requirement concerns a value that was not measured.
    """
    weakest, _, class_bound = challenger.weakest_class()
    values: dict[str, int | float | None] = {
        "accuracy": challenger.accuracy_interval[0],
        "parameters": challenger.parameters,
        "file_mb": challenger.file_mb,
        "latency_ms": challenger.latency_ms,
        "class_accuracy": class_bound,
        "ece": challenger.calibration_error,
        "agreement": challenger.agreement,
    }
    bounds = {name: getattr(require, name) for name in values} | require.metrics
    values |= {name: challenger.metrics.get(name) for name in require.metrics}
    rules = []
    for name, value in values.items():
        bound: str | None = bounds[name]
        if bound is None:
            continue
        if value is None:
            raise ValueError(f"{name} is required of {challenger.name}, and was not measured")
        sign, number = bound.split()
        holds = value >= float(number) if sign == ">=" else value <= float(number)
        if name == "class_accuracy":
            untested = sorted({*challenger.classes} - {*challenger.labels.tolist()})
            note = f"no test example of class {', '.join(map(repr, untested))}" if untested else ""
            rules.append(Rule(name, value, bound, holds and not untested, weakest, note))
        else:
            rules.append(Rule(name, value, bound, holds))
    return rules


def unmet_requirements(rules: Iterable[Rule]) -> str:
    """Return the unmet requirements in words. If all requirements are met, return an empty string."""
    return "; ".join(_in_words(rule) for rule in rules if not rule.holds)


def _in_words(rule: Rule) -> str:
    if rule.note:
        return f"{rule.note}, but {rule.name} {rule.bound} is required of every class"
    value = str(rule.value) if isinstance(rule.value, int) else f"{rule.value:.6g}"
    quantity = WORDS.get(rule.name, f"{rule.name} on test")
    return f"{quantity}{rule.about and f' {rule.about!r}'} is {value}, required {rule.bound}"
