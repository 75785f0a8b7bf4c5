"""The gate: whether a challenger becomes the champion, by a paired test and the declared budgets, and never by `>`."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kdmodels.experiment import Require
from kdmodels.statistics import (
    Interval,
    check_correct,
    expected_calibration_error,
    mcnemar_exact,
    paired_difference_interval,
    wilson_interval,
)

BUDGETS = {
    "accuracy": "test accuracy's lower 95% bound",
    "parameters": "the number of parameters",
    "file_mb": "the size of the weights' file in MB",
    "latency_ms": "the median time of one image in ms",
    "class_accuracy": "the lower 95% bound of its test accuracy on class",
    "ece": "the expected calibration error on test",
    "agreement": "the lower 95% bound of its agreement with the teacher on test",
}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model as the gate sees it.

    correct: (N,) bool, which of the test split's examples it gets right; the order is the same for every candidate.
    labels: (N,) str, the names of the examples' classes. parameters: their number. file_bytes: the size of its
    weights' file. latency_ms: the median time of one image on the CPU. confidences: (N,), the probability of the class
    that it predicts; agrees: (N,) bool, where that is the teacher's; None where it was not measured.
    Raises ValueError where `correct` is not a boolean vector or is empty, or `labels` are not as many.
    """

    name: str
    correct: np.ndarray
    labels: np.ndarray
    parameters: int
    file_bytes: int
    latency_ms: float
    confidences: np.ndarray | None = None
    agrees: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_correct(self.correct)
        if self.labels.shape != self.correct.shape:
            raise ValueError(f"expected {self.correct.shape} labels, got {self.labels.shape}")


@dataclass(frozen=True)
class Verdict:
    """The decision, one sentence that says why, and every number behind it as JSON-able values."""

    promoted: bool
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The challenger against another model on the same n examples.

    b, c: examples that only the challenger, only the other gets right. difference: (b - c) / n, with Tango's two-sided
    interval at 1 - alpha; lower_bound: its one-sided lower bound at 1 - alpha. p_value: McNemar's exact test.
    """

    against: str
    n: int
    b: int
    c: int
    p_value: float
    difference: float
    interval: Interval
    lower_bound: float
    alpha: float

    @property
    def better(self) -> bool:
        return self.difference > 0 and self.p_value < self.alpha

    @property
    def worse(self) -> bool:
        return self.difference < 0 and self.p_value < self.alpha

    def __str__(self) -> str:
        low, high = self.interval
        p = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        return (
            f"{100 * self.difference:+.2f} points on {self.n} test examples, "
            f"{100 * (1 - self.alpha):g}% interval {100 * low:+.2f} to {100 * high:+.2f}, {p}"
        )


@dataclass(frozen=True)
class Rule:
    """One line of `promote.require`, or of what is asked of a champion's successor: what was measured and is allowed.

    The value of an accuracy or an agreement is the lower end of its 95 % Wilson interval; of `file_mb`, in 10^6 bytes.
    `about` is the class for which `class_accuracy` stands.
    """

    name: str
    value: int | float
    bound: str
    holds: bool
    about: str = ""


def decide(
    challenger: Candidate,
    control: Candidate | None,
    champion: Candidate | None,
    *,
    margin: float,
    require: Require,
    alpha: float = 0.05,
) -> Verdict:
    """Promote the challenger, or refuse it, and say why.

    A budget that does not hold refuses. Without a champion the budgets decide alone. A champion is replaced by one that
    McNemar's test finds better, or by one with fewer parameters whose accuracy is no more than the margin below: the
    one-sided lower bound of the difference has to say so, since a test that finds nothing proves nothing.

    Args:
        challenger: the winner of the comparison; it may be the control itself, told by its name.
        control: the same student trained on labels alone, for the record; it has no say in the decision.
        margin: in accuracy, 0.002 being 0.2 points. require: the declared budgets. alpha: the test's level.
    Raises:
        ValueError: vectors of `correct` of different length, or something is required that was not measured.
    """
    is_control = control is not None and control.name == challenger.name
    vs_control = _compare(challenger, control, alpha) if control and not is_control else None
    vs_champion = _compare(challenger, champion, alpha) if champion else None
    budgets = _budgets(challenger, require)
    evidence = {
        "n": int(challenger.correct.size),
        "alpha": alpha,
        "margin": margin,
        "challenger": _describe(challenger),
        "control": _describe(control) if control else None,
        "champion": _describe(champion) if champion else None,
        "vs_control": asdict(vs_control) if vs_control else None,
        "vs_champion": asdict(vs_champion) if vs_champion else None,
        "budgets": [asdict(budget) for budget in budgets],
        "succession": [asdict(rule) for rule in _succession(challenger, champion, vs_champion, margin)],
    }
    broken = [budget for budget in budgets if not budget.holds]
    if broken:
        promoted, reason = False, _budgets_broken(challenger, broken)
    elif champion is None or vs_champion is None:
        promoted, reason = True, _first(challenger, is_control, vs_control, bool(budgets))
    else:
        promoted, reason = _against_champion(challenger, champion, vs_champion, margin)
    return Verdict(promoted, reason, evidence)


def _compare(challenger: Candidate, other: Candidate, alpha: float) -> Comparison:
    test, n = mcnemar_exact(challenger.correct, other.correct), int(challenger.correct.size)
    return Comparison(
        against=other.name,
        n=n,
        b=test.b,
        c=test.c,
        p_value=test.p_value,
        difference=(test.b - test.c) / n,
        interval=paired_difference_interval(test.b, test.c, n, 1 - alpha),
        lower_bound=paired_difference_interval(test.b, test.c, n, 1 - 2 * alpha)[0],
        alpha=alpha,
    )


def _accuracy(candidate: Candidate) -> tuple[float, Interval]:
    right, n = int(np.sum(candidate.correct)), int(candidate.correct.size)
    return right / n, wilson_interval(right, n)


def _weakest_class(candidate: Candidate) -> tuple[str, float, float]:
    """The class whose accuracy's lower bound is lowest, the accuracy and that bound."""
    found = []
    for name in np.unique(candidate.labels):
        correct = candidate.correct[candidate.labels == name]
        right, n = int(np.sum(correct)), int(correct.size)
        found.append((wilson_interval(right, n)[0], right / n, str(name)))
    bound, accuracy, weakest = min(found)
    return weakest, accuracy, bound


def _describe(candidate: Candidate) -> dict[str, Any]:
    accuracy, interval = _accuracy(candidate)
    weakest, class_accuracy, _ = _weakest_class(candidate)
    return {
        "name": candidate.name,
        "accuracy": accuracy,
        "accuracy_interval": interval,
        "parameters": candidate.parameters,
        "file_mb": candidate.file_bytes / 1e6,
        "latency_ms": candidate.latency_ms,
        "weakest_class": {"name": weakest, "accuracy": class_accuracy},
        "ece": _calibration(candidate),
        "agreement": _agreement(candidate),
    }


def _budgets(challenger: Candidate, require: Require) -> list[Rule]:
    weakest, _, class_bound = _weakest_class(challenger)
    measured: dict[str, int | float | None] = {
        "accuracy": _accuracy(challenger)[1][0],
        "parameters": challenger.parameters,
        "file_mb": challenger.file_bytes / 1e6,
        "latency_ms": challenger.latency_ms,
        "class_accuracy": class_bound,
        "ece": _calibration(challenger),
        "agreement": _agreement(challenger),
    }
    budgets = []
    for name, value in measured.items():
        bound: str | None = getattr(require, name)
        if bound is not None:
            if value is None:
                raise ValueError(f"{name} is required of {challenger.name}, and was not measured")
            sign, number = bound.split()
            holds = value >= float(number) if sign == ">=" else value <= float(number)
            budgets.append(Rule(name, value, bound, holds, weakest if name == "class_accuracy" else ""))
    return budgets


def _calibration(candidate: Candidate) -> float | None:
    if candidate.confidences is None:
        return None
    return expected_calibration_error(candidate.confidences, candidate.correct)


def _agreement(candidate: Candidate) -> float | None:
    if candidate.agrees is None:
        return None
    return wilson_interval(int(np.sum(candidate.agrees)), int(candidate.agrees.size))[0]


def _succession(
    challenger: Candidate, champion: Candidate | None, comparison: Comparison | None, margin: float
) -> list[Rule]:
    """What a champion's successor has to be: better; or smaller and, at most by the margin, worse."""
    if champion is None or comparison is None:
        return []
    size, least = challenger.parameters, comparison.lower_bound
    return [
        Rule("better than the champion: p", comparison.p_value, f"< {comparison.alpha:g}, above it", comparison.better),
        Rule("or smaller: parameters", size, f"< {champion.parameters}", size < champion.parameters),
        Rule("and not worse by the margin: lower bound", least, f">= {-margin:g}", least >= -margin),
    ]


def _budgets_broken(challenger: Candidate, broken: list[Rule]) -> str:
    told = [
        f"{BUDGETS[each.name]}{each.about and f' {each.about!r}'} is {_number(each.value)}, required {each.bound}"
        for each in broken
    ]
    return f"{challenger.name} is refused: {'; '.join(told)}."


def _number(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _first(challenger: Candidate, is_control: bool, vs_control: Comparison | None, declared: bool) -> str:
    start = (
        f"{challenger.name} becomes the first champion: {'every budget holds' if declared else 'no budget is declared'}"
    )
    if is_control:
        return f"{start}, and it is the control itself: no other variant did better on validation."
    if vs_control is None:
        return f"{start}, and there is no control to compare it with."
    relation = "better than" if vs_control.better else "worse than" if vs_control.worse else "indistinguishable from"
    return f"{start}, and it is {relation} the control {vs_control.against} ({vs_control})."


def _against_champion(
    challenger: Candidate, champion: Candidate, comparison: Comparison, margin: float
) -> tuple[bool, str]:
    points, sizes = 100 * margin, f"{challenger.parameters:,} parameters against {champion.parameters:,}"
    if comparison.better:
        return True, f"{challenger.name} replaces {champion.name}: it is better ({comparison})."
    refused = f"{challenger.name} does not replace {champion.name}"
    if comparison.worse and comparison.lower_bound < -margin:
        return False, f"{refused}: it is worse ({comparison})."
    if challenger.parameters >= champion.parameters:
        return False, f"{refused}: it is neither shown to be better ({comparison}) nor smaller ({sizes})."
    bound = f"one-sided {100 * (1 - comparison.alpha):g}% bound {100 * comparison.lower_bound:+.2f}"
    if comparison.lower_bound < -margin:
        return False, (
            f"{refused}: it is smaller ({sizes}), but may be worse by more than the margin "
            f"of {points:.2f} points ({comparison}, {bound})."
        )
    return True, (
        f"{challenger.name} replaces {champion.name}: it is smaller ({sizes}) "
        f"and not worse by more than the margin of {points:.2f} points ({comparison}, {bound})."
    )
