"""The promotion gate, which decides whether a challenger becomes the champion.

The champion is the model that is currently promoted. A challenger is a new student that could replace the champion. A
paired test and the declared requirements decide. A higher accuracy alone is not sufficient.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from pydantic import JsonValue

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.chance import Chance, compare_with_chance
from kdmodels.evaluation.comparison import Comparison, compare, compare_on_shared_classes
from kdmodels.evaluation.looks import ALPHA, Look
from kdmodels.evaluation.requirements import Rule, check_requirements, unmet_requirements
from kdmodels.evaluation.statistics import paired_difference_interval
from kdmodels.experiment import Require

ONLY_LOOK = Look(1, 1)


@dataclass(frozen=True)
class Verdict:
    """The decision of the promotion gate.

    Attributes:
        name: The name of the model that the decision is about.
        promoted: Whether this model becomes the champion.
        reason: The reason for the decision, in words.
        evidence: All numbers on which the decision is based, as values that can be written as JSON.
        unmet: The unmet requirements, in words. Empty if all requirements are met.
        worse_than_control: Whether the model is significantly worse than its control. Always false if there is a
            champion, because the control then has no influence on the decision.
    """

    name: str
    promoted: bool
    reason: str
    evidence: dict[str, JsonValue]
    unmet: str = ""
    worse_than_control: bool = False


def decide(
    challenger: Candidate,
    control: Candidate | None,
    champion: Candidate | None,
    *,
    margin: float,
    require: Require,
    look: Look = ONLY_LOOK,
) -> Verdict:
    """Decide whether the challenger becomes the champion, and give the reason.

    If a requirement is not met, the challenger is refused.

    If there is no champion, the challenger is also refused in two cases. Both tests have the level `ALPHA`:

    - The challenger is significantly worse than its control, by McNemar's exact two-sided test.
    - The challenger is not significantly better than the most frequent class, by an exact one-sided binomial test.

    If there is a champion, the challenger must pass one test. The significance level of the test depends on `look`. The
    choice of the test uses only facts that are known before the test split is read:

    - A challenger with fewer parameters or more classes must not be worse by more than the margin: the lower bound of
      Tango's one-sided interval must be at least -margin. Finding no significant difference is not enough.
    - Any other challenger must be significantly better, by McNemar's exact one-sided test.

    Challenger and champion are compared on the examples whose class the champion can predict.

    Args:
        challenger: The student with the highest validation accuracy.
        control: The challenger's student, trained on labels only. `None` if there is no control. If the control has the
            challenger's name, the challenger is the control itself. If there is a champion, the control is only
            reported.
        champion: The model that would be replaced. `None` if there is no champion.
        margin: The largest allowed loss of accuracy, e.g. 0.002 for 0.2 percentage points.
        require: The declared requirements.
        look: The number of this comparison on the test split, and the number of declared comparisons. Both set the
            significance level.

    Raises:
        ValueError: The `correct` vectors differ in length, or a declared requirement concerns a value that was not
            measured.
    """
    is_control = control is not None and control.name == challenger.name
    vs_control = compare(challenger, control, None) if control and not is_control else None
    vs_champion = compare_on_shared_classes(challenger, champion, look) if champion else None
    vs_chance = compare_with_chance(int(challenger.correct.sum()), challenger.labels)
    requirements = check_requirements(challenger, require)
    evidence: dict[str, JsonValue] = {
        "n": int(challenger.correct.size),
        "alpha": ALPHA,
        "margin": margin,
        "look": {"number": look.number, "of": look.of, "level": look.level} if champion else None,
        "challenger": challenger.describe(),
        "control": control.describe() if control else None,
        "champion": champion.describe() if champion else None,
        "vs_control": asdict(vs_control) if vs_control else None,
        "vs_chance": asdict(vs_chance),
        "vs_champion": asdict(vs_champion) if vs_champion else None,
        "budgets": [asdict(rule) for rule in requirements],
        "succession": [asdict(rule) for rule in _succession(challenger, champion, vs_champion, margin)],
    }
    unmet = unmet_requirements(requirements)
    problems = [unmet] if unmet else []
    if champion is None:
        problems += _problems_of_first_champion(vs_control, vs_chance)
    if problems:
        promoted, reason = False, f"{challenger.name} is refused: {'; '.join(problems)}."
    elif champion is None:
        promoted, reason = True, _first_champion(challenger, is_control, vs_control, bool(requirements))
    elif vs_champion is None:
        problem = "no test example is of a class that both know"
        promoted, reason = False, f"{challenger.name} does not replace {champion.name}: {problem}."
    else:
        promoted, reason = _against_champion(challenger, champion, vs_champion, margin, look)
    worse_than_control = champion is None and vs_control is not None and vs_control.worse
    return Verdict(challenger.name, promoted, reason, evidence, unmet, worse_than_control)


def decide_on_control(refused: Verdict, control: Candidate, *, margin: float, require: Require) -> Verdict:
    """Decide whether the control becomes the first champion after the challenger was refused.

    Call this function if the challenger is significantly worse than the control. To be promoted, the control must meet
    the requirements and be significantly better than the most frequent class.

    Args:
        refused: The verdict on the challenger.
        control: The challenger's control.
        margin, require: As for `decide`.

    Returns:
        If the control is promoted, the verdict on the control. The entry `instead_of` of its evidence describes the
        challenger. If the control is refused too, the verdict on the challenger, with both reasons.
    """
    verdict = decide(control, control, None, margin=margin, require=require)
    if not verdict.promoted:
        return replace(refused, reason=f"{refused.reason} The control is not promoted either: {verdict.reason}")
    instead_of: JsonValue = {name: refused.evidence[name] for name in ("challenger", "vs_control")}
    start = f"{control.name} becomes the first champion instead of {refused.name}."
    reason = f"{start} {_requirements_in_words(bool(verdict.evidence['budgets']))} {refused.reason}"
    return replace(verdict, reason=reason, evidence=verdict.evidence | {"instead_of": instead_of})


def _succession(
    challenger: Candidate, champion: Candidate | None, comparison: Comparison | None, margin: float
) -> list[Rule]:
    """Return the rules for replacing the champion, each with its result.

    The first rules tell whether the challenger is smaller or has more classes. They determine the last rule,
    and only the last rule decides. If the challenger is smaller or has more classes, it must not be worse by more than
    the margin. Otherwise, it must be better.

    Args:
        challenger: The model that could replace the champion.
        champion: The champion. `None` if there is no champion.
        comparison: The comparison of the two models. `None` if no test example has a class that both can predict.
        margin: The largest allowed loss of accuracy.

    Returns:
        The rules. The list is empty if `champion` or `comparison` is `None`.
    """
    if champion is None or comparison is None:
        return []
    is_smaller = _is_smaller(challenger, champion)
    rules = [Rule("smaller: parameters", challenger.parameters, f"< {champion.parameters}", is_smaller)]
    if new := _new_classes(challenger, champion):
        rules.append(Rule("more classes", len(new), ">= 1", True))
    if _offers_more(challenger, champion):
        least = comparison.lower_bound
        return [*rules, Rule("not worse by the margin: lower bound", least, f">= {-margin:g}", least >= -margin)]
    bound = f"< {comparison.level:.3g}, above it"
    return [*rules, Rule("better than the champion: one-sided p", comparison.p_better, bound, comparison.better)]


def _problems_of_first_champion(vs_control: Comparison | None, vs_chance: Chance) -> Iterator[str]:
    """Yield the reasons, other than unmet requirements, against promoting the challenger as the first champion.

    Args:
        vs_control: The comparison with the control. `None` if there is no control other than the challenger.
        vs_chance: The comparison with the most frequent class.
    """
    if vs_control and vs_control.worse:
        yield f"it is worse than the control {vs_control.against} ({vs_control})"
    if not vs_chance.better:
        yield f"it is not significantly better than the most frequent class ({vs_chance})"


def _first_champion(challenger: Candidate, is_control: bool, vs_control: Comparison | None, has_rules: bool) -> str:
    """Return the reason for promoting the challenger as the first champion.

    Args:
        challenger: The model that becomes the champion.
        is_control: Whether the challenger is the control itself.
        vs_control: The comparison with the control. `None` if there is no control other than the challenger.
        has_rules: Whether requirements are declared.
    """
    start = f"{challenger.name} becomes the first champion. {_requirements_in_words(has_rules)}"
    if is_control:
        return f"{start} No distilled variant beat the label-only control on validation."
    if vs_control is None:
        return f"{start} There is no control to compare it with."
    relation = "better than" if vs_control.better else "not significantly different from"
    return f"{start} It is {relation} the control {vs_control.against} ({vs_control})."


def _requirements_in_words(has_rules: bool) -> str:
    return "All requirements are met." if has_rules else "No requirements are declared."


def _against_champion(
    challenger: Candidate, champion: Candidate, comparison: Comparison, margin: float, look: Look
) -> tuple[bool, str]:
    """Return whether the challenger replaces the champion, and the reason."""
    refused = f"{challenger.name} does not replace {champion.name}"
    if look.is_spent:
        return False, (
            f"{refused}: all {look.of} looks at this test split are spent ({comparison}). "
            "Allowed: new test images, or kd promote --force --reason TEXT."
        )
    if _offers_more(challenger, champion):
        promoted, reason = _not_worse(challenger, champion, comparison, margin)
    else:
        promoted, reason = _better(challenger, champion, comparison)
    subject = f"{challenger.name} replaces {champion.name}" if promoted else refused
    reason = f"{subject}: {reason}. This was {look}."
    if not promoted and _offers_more(challenger, champion) and not comparison.worse:
        reason += _too_few_examples(comparison, margin)
    return promoted, reason


def _better(challenger: Candidate, champion: Candidate, comparison: Comparison) -> tuple[bool, str]:
    """Return whether a challenger is better than the champion, and the reason.

    Call this function for a challenger that is neither smaller than the champion nor has more classes.
    """
    if comparison.better:
        return True, f"it is better ({comparison})"
    if comparison.worse:
        return False, f"it is worse ({comparison})"
    sizes = _sizes(challenger, champion)
    return False, f"it is neither significantly better ({comparison}) nor smaller ({sizes})"


def _not_worse(challenger: Candidate, champion: Candidate, comparison: Comparison, margin: float) -> tuple[bool, str]:
    """Return whether a challenger is not worse than the champion by more than the margin, and the reason.

    Call this function for a challenger that is smaller than the champion or has more classes.
    """
    new = _new_classes(challenger, champion)
    offers = [f"it is smaller ({_sizes(challenger, champion)})"] if _is_smaller(challenger, champion) else []
    offers += [f"it knows more classes ({', '.join(map(repr, new))}, left out of the comparison)"] if new else []
    figures = f"{comparison}, one-sided bound at this look's level {100 * comparison.lower_bound:+z.2f}"
    points = f"{100 * margin:.2f} points"
    if comparison.lower_bound >= -margin:
        # Closed testing: after a significant test of the margin, the test for "better" adds no error probability.
        better = comparison.difference > 0 and comparison.p_better < comparison.level
        offers.append("it is better" if better else f"not worse by more than the margin of {points}")
        return True, f"{' and '.join(offers)} ({figures})"
    if comparison.worse:
        return False, f"it is worse ({figures})"
    return False, f"{' and '.join(offers)}, but may be worse by more than the margin of {points} ({figures})"


def _too_few_examples(comparison: Comparison, margin: float) -> str:
    """Return a message if the test split is too small for the margin, otherwise an empty string.

    The split is too small if even a challenger that agrees with the champion on every example would be refused.
    """
    least = -paired_difference_interval(0, 0, comparison.n, 1 - 2 * comparison.level)[0]
    if least <= margin:
        return ""
    return (
        f" Even two models that agree on all {comparison.n} test examples would show no margin below "
        f"{100 * least:.2f} points at this look."
    )


def _sizes(challenger: Candidate, champion: Candidate) -> str:
    return f"{challenger.parameters:,} parameters against {champion.parameters:,}"


def _is_smaller(challenger: Candidate, champion: Candidate) -> bool:
    return challenger.parameters < champion.parameters


def _new_classes(challenger: Candidate, champion: Candidate) -> list[str]:
    return sorted({*challenger.classes} - {*champion.classes})


def _offers_more(challenger: Candidate, champion: Candidate) -> bool:
    """Return whether the challenger has fewer parameters or more classes than the champion.

    Such a challenger does not have to be better, but it must not be worse by more than the margin.
    """
    return _is_smaller(challenger, champion) or bool(_new_classes(challenger, champion))
