"""The gate: whether a challenger becomes the champion, by a paired test and the declared budgets, and never by `>`."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from kdmodels.experiment import Require
from kdmodels.looks import ALPHA, Look
from kdmodels.statistics import (
    Interval,
    check_correct,
    expected_calibration_error,
    mcnemar_exact,
    paired_difference_interval,
    wilson_interval,
)

ONLY_LOOK = Look(1, 1)
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

    Attributes:
        correct: (N,) bool, which test examples it gets right; all candidates have the same examples in the same order.
        labels: (N,) str, the names of the examples' classes.
        classes: the names of the classes that it can predict.
        file_bytes: size of its weights' file.
        latency_ms: median time of one image on the CPU.
        confidences: (N,), the probability of the predicted class; None if it was not measured.
        agrees: (N,) bool, whether the predicted class is the teacher's; None if it was not measured.

    Raises:
        ValueError: `correct` is not a boolean vector or is empty, or `labels` has another length.
    """

    name: str
    correct: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
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

    Attributes:
        b, c: examples that only the challenger gets right, and only the other model.
        difference: (b - c) / n; interval: Tango's two-sided 95 % interval for it.
        p_value: McNemar's exact test, two-sided. p_better: one-sided, that the challenger is no better.
        level: the level of this comparison's one-sided test. lower_bound: Tango's bound for the difference at it.
        decides: whether the one-sided test decides about a promotion.
    """

    against: str
    n: int
    b: int
    c: int
    p_value: float
    p_better: float
    difference: float
    interval: Interval
    level: float
    lower_bound: float
    decides: bool

    @property
    def better(self) -> bool:
        return self.difference > 0 and (self.p_better < self.level if self.decides else self.p_value < ALPHA)

    @property
    def worse(self) -> bool:
        return self.difference < 0 and self.p_value < ALPHA

    def __str__(self) -> str:
        low, high = self.interval
        name, value = ("one-sided p", self.p_better) if self.decides else ("p", self.p_value)
        p = (
            f"{name} = {value:.3f}"
            if value >= 0.001
            else f"{name} = {value:.1e}"
            if self.decides
            else f"{name} < 0.001"
        )
        return (
            f"{100 * self.difference:+.2f} points on {self.n} test examples, "
            f"95% interval {100 * low:+.2f} to {100 * high:+.2f}, {p}"
        )


@dataclass(frozen=True)
class Rule:
    """One line of `promote.require`, or of what is asked of a champion's successor: what was measured and is allowed.

    The value of an accuracy or an agreement is the lower end of its 95 % Wilson interval; of `file_mb`, in 10^6 bytes.
    `about` is the class for which `class_accuracy` stands. `note` says why a value cannot be had.
    """

    name: str
    value: int | float
    bound: str
    holds: bool
    about: str = ""
    note: str = ""


def decide(
    challenger: Candidate,
    control: Candidate | None,
    champion: Candidate | None,
    *,
    margin: float,
    require: Require,
    look: Look = ONLY_LOOK,
) -> Verdict:
    """Promote the challenger, or refuse it, and say why.

    A requirement that is not met refuses. Without a champion the requirements decide alone. Against a champion one
    hypothesis is tested, at the level of this look. It is chosen by what is known before the test split is read:

    - A challenger with fewer parameters, or with more classes, must not be worse by more than the margin. Tango's
      one-sided bound of the difference has to say so, since a test that finds nothing proves nothing.
    - Any other challenger must be better, by McNemar's exact one-sided test.

    The two are compared on the classes that both can predict.

    Args:
        challenger: the winner of the comparison; it may be the control itself, told by its name.
        control: the same student trained on labels alone, for the record; it has no say in the decision.
        margin: in accuracy, 0.002 being 0.2 points. look: which comparison on this test split this is.
    Raises:
        ValueError: vectors of `correct` of different length, or something is required that was not measured.
    """
    is_control = control is not None and control.name == challenger.name
    vs_control = _compare(challenger, control, None) if control and not is_control else None
    comparable = champion is not None and bool(np.isin(challenger.labels, champion.classes).any())
    vs_champion = _compare(*_on_shared_classes(challenger, champion), look) if champion and comparable else None
    budgets = _budgets(challenger, require)
    evidence = {
        "n": int(challenger.correct.size),
        "alpha": ALPHA,
        "margin": margin,
        "look": {"number": look.number, "of": look.of, "level": look.level} if champion else None,
        "challenger": _describe(challenger),
        "control": _describe(control) if control else None,
        "champion": _describe(champion) if champion else None,
        "vs_control": asdict(vs_control) if vs_control else None,
        "vs_champion": asdict(vs_champion) if vs_champion else None,
        "budgets": [asdict(budget) for budget in budgets],
        "succession": [asdict(rule) for rule in _succession(challenger, champion, vs_champion, margin)],
    }
    broken = broken_budgets(budgets)
    if broken:
        promoted, reason = False, f"{challenger.name} is refused: {broken}."
    elif champion is not None and vs_champion is None:
        told = "no test example is of a class that both know"
        promoted, reason = False, f"{challenger.name} does not replace {champion.name}: {told}."
    elif champion is None or vs_champion is None:
        promoted, reason = True, _first(challenger, is_control, vs_control, bool(budgets))
    else:
        promoted, reason = _against_champion(challenger, champion, vs_champion, margin, look)
    return Verdict(promoted, reason, evidence)


def _compare(challenger: Candidate, other: Candidate, look: Look | None) -> Comparison:
    """Compare the two; `look` None: for the record, which decides nothing."""
    test, n = mcnemar_exact(challenger.correct, other.correct), int(challenger.correct.size)
    level = look.level if look else ALPHA
    return Comparison(
        against=other.name,
        n=n,
        b=test.b,
        c=test.c,
        p_value=test.p_value,
        p_better=test.p_better,
        difference=(test.b - test.c) / n,
        interval=paired_difference_interval(test.b, test.c, n),
        level=level,
        lower_bound=paired_difference_interval(test.b, test.c, n, 1 - 2 * level)[0] if level else -1.0,
        decides=look is not None,
    )


def _on_shared_classes(challenger: Candidate, champion: Candidate) -> tuple[Candidate, Candidate]:
    """Leave out the examples of classes that the champion cannot predict."""
    shared = [np.isin(each.labels, champion.classes) for each in (challenger, champion)]
    first, second = (
        replace(each, correct=each.correct[rows], labels=each.labels[rows])
        for each, rows in zip((challenger, champion), shared, strict=True)
    )
    return first, second


def _accuracy(candidate: Candidate) -> tuple[float, Interval]:
    right, n = int(np.sum(candidate.correct)), int(candidate.correct.size)
    return right / n, wilson_interval(right, n)


def _weakest_class(candidate: Candidate) -> tuple[str, float, float]:
    """The class whose accuracy's lower bound is lowest, the accuracy and that bound."""
    found: list[tuple[float, float, str]] = []
    for name in {*candidate.classes, *candidate.labels.tolist()}:
        correct = candidate.correct[candidate.labels == name]
        right, n = int(np.sum(correct)), int(correct.size)
        found.append((wilson_interval(right, n)[0], right / n, name) if n else (0.0, 0.0, name))
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
    untested = sorted({*challenger.classes} - {*challenger.labels.tolist()})
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
            if name == "class_accuracy":
                note = f"no test example of class {', '.join(map(repr, untested))}" if untested else ""
                budgets.append(Rule(name, value, bound, holds and not untested, weakest, note))
            else:
                budgets.append(Rule(name, value, bound, holds))
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
    """Return what is asked of the champion's successor: that it offers more and is not worse, or that it is better."""
    if champion is None or comparison is None:
        return []
    rules = [
        Rule("smaller: parameters", challenger.parameters, f"< {champion.parameters}", _smaller(challenger, champion))
    ]
    if new := _new_classes(challenger, champion):
        rules.append(Rule("more classes", len(new), ">= 1", True))
    if offers_more(challenger, champion):
        least = comparison.lower_bound
        return [*rules, Rule("not worse by the margin: lower bound", least, f">= {-margin:g}", least >= -margin)]
    bound = f"< {comparison.level:.3g}, above it"
    return [*rules, Rule("better than the champion: one-sided p", comparison.p_better, bound, comparison.better)]


def broken_budgets(budgets: list[Rule]) -> str:
    """Return the requirements that are not met, in words; empty if all are."""
    return "; ".join(
        f"{each.note}, required is {BUDGETS[each.name]} {each.bound}"
        if each.note
        else f"{BUDGETS[each.name]}{each.about and f' {each.about!r}'} is {_number(each.value)}, required {each.bound}"
        for each in budgets
        if not each.holds
    )


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
    challenger: Candidate, champion: Candidate, comparison: Comparison, margin: float, look: Look
) -> tuple[bool, str]:
    refused = f"{challenger.name} does not replace {champion.name}"
    sizes = f"{challenger.parameters:,} parameters against {champion.parameters:,}"
    if look.is_spent:
        return False, (
            f"{refused}: all {look.of} looks at this test split are spent ({comparison}). "
            "To go on, use new test images, or promote it with --force --reason TEXT."
        )
    told = f" This was {look}."
    if not offers_more(challenger, champion):
        if comparison.better:
            return True, f"{challenger.name} replaces {champion.name}: it is better ({comparison}).{told}"
        if comparison.worse:
            return False, f"{refused}: it is worse ({comparison}).{told}"
        return False, f"{refused}: it is neither shown to be better ({comparison}) nor smaller ({sizes}).{told}"
    new = _new_classes(challenger, champion)
    offers = [f"it is smaller ({sizes})"] if _smaller(challenger, champion) else []
    offers += [f"it knows more classes ({', '.join(map(repr, new))}, left out of the comparison)"] if new else []
    bound = f"one-sided bound at this look's level {100 * comparison.lower_bound:+.2f}"
    if comparison.lower_bound >= -margin:
        better = comparison.difference > 0 and comparison.p_better < comparison.level  # closed testing: at no cost
        offers.append("it is better" if better else f"not worse by more than the margin of {100 * margin:.2f} points")
        return (
            True,
            f"{challenger.name} replaces {champion.name}: {' and '.join(offers)} ({comparison}, {bound}).{told}",
        )
    if comparison.worse:
        return False, f"{refused}: it is worse ({comparison}, {bound}).{told}"
    return False, (
        f"{refused}: {' and '.join(offers)}, but may be worse by more than the margin "
        f"of {100 * margin:.2f} points ({comparison}, {bound}).{told}{_too_few(comparison, margin)}"
    )


def _too_few(comparison: Comparison, margin: float) -> str:
    """Return a sentence if the test examples are too few for the margin, whatever an equal challenger answers."""
    least = -paired_difference_interval(0, 0, comparison.n, 1 - 2 * comparison.level)[0]
    if least <= margin:
        return ""
    return (
        f" Even two models that agree on all {comparison.n} test examples would show no margin below "
        f"{100 * least:.2f} points at this look."
    )


def _smaller(challenger: Candidate, champion: Candidate) -> bool:
    return challenger.parameters < champion.parameters


def _new_classes(challenger: Candidate, champion: Candidate) -> list[str]:
    return sorted({*challenger.classes} - {*champion.classes})


def offers_more(challenger: Candidate, champion: Candidate) -> bool:
    """Whether the challenger has fewer parameters, or more classes: then it need not be better."""
    return _smaller(challenger, champion) or bool(_new_classes(challenger, champion))
