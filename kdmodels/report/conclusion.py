"""A function that summarises a leaderboard in a few sentences."""

from collections.abc import Sequence

from kdmodels.evaluation.significance import LEVEL
from kdmodels.experiment.metrics import Metric
from kdmodels.report.formats import difference, interval, p_value
from kdmodels.report.leaderboard import LeaderboardRow

CORRECTED = " after Holm's correction"
MOST_NAMES = 8  # maximum number of names in a list of variants


def conclusion(rows: Sequence[LeaderboardRow]) -> str:
    """Return a few sentences that compare the best variant with its control and with the other variants.

    The control of a variant is the same student, trained only on labels. The best variant counts as better than its
    control if the tests over seeds and over examples are both significant. Both tests are corrected for all comparisons
    with a control. A variant differs significantly from the best variant if the two are in different groups. See
    `kdmodels.evaluation.significance.groups`.

    Args:
        rows: The leaderboard, best variant first.
    """
    return f"{against_control(rows)} {against_others(rows)}".rstrip()


def is_better_than_control(best: LeaderboardRow) -> bool | None:
    """Return whether the best variant is significantly better than its control, over seeds and over examples.

    The result is `None` if the difference was not tested, for example because the best variant is a control itself.
    """
    over_seeds, over_examples = best.evidence.control_p_holm, best.evidence.control_p_mcnemar
    if over_seeds is None:
        return None
    return over_seeds < LEVEL and (over_examples is None or over_examples < LEVEL)


def against_control(rows: Sequence[LeaderboardRow]) -> str:
    """Return the sentence that compares the best variant with its control. See `conclusion` for `rows`."""
    best, others, control = _parts(rows)
    if best is None:
        return "No student finished."
    if not others:
        return f"{best.student.variant} is the only variant that finished."
    if best.student.rank_by:
        return _ahead_in_metric(best, best.student.rank_by, control)
    name, evidence = best.student.variant, best.evidence
    if name == best.student.control:
        return f"{name}, the control, has the highest validation accuracy: no distilled variant did better."
    if control is None or evidence.control_difference is None:
        return f"{name} has the highest validation accuracy. It is not compared with a control."
    lead = f"{control.student.variant} by {100 * evidence.control_difference:.2f} points on the validation images"
    if ends := interval(evidence.control_difference_low, evidence.control_difference_high):
        lead += f" (95 % interval over seeds {ends})"
    if evidence.control_p_holm is None:
        return f"{name} is ahead of {lead}."
    if is_better_than_control(best):
        return f"{name} is better than {lead}."
    if evidence.control_p_holm >= LEVEL:
        is_corrected = evidence.control_p is not None and evidence.control_p < LEVEL
        return f"{name} is ahead of {lead}, but not significantly{CORRECTED if is_corrected else ''}."
    return (
        f"{name} is better than {lead}, but other images may show no lead: over images, the difference is not "
        f"significant (p = {evidence.control_p_mcnemar:.3f})."
    )


def _ahead_in_metric(best: LeaderboardRow, metric: Metric, control: LeaderboardRow | None) -> str:
    """Return the sentences on a best variant that a metric other than the accuracy has chosen.

    The tests compare accuracies, so the sentences say nothing about the significance of the metric's difference.
    """
    name, evidence = best.student.variant, best.evidence
    first = f"{name} has the best {metric.title}, {best.metric(metric.name)}."
    if name == best.student.control:
        return f"{first} It is the control: no distilled variant did better."
    if control is None or evidence.control_difference is None:
        return first
    first = f"{first[:-1]}; {control.student.variant}, its control, has {control.metric(metric.name)}."
    points = difference(evidence.control_difference, evidence.control_difference_low, evidence.control_difference_high)
    tested = f", p (Holm) {p_value(evidence.control_p_holm)}" if evidence.control_p_holm is not None else ""
    return f"{first} The tests compare accuracies: {points} points against the control{tested}."


def against_others(rows: Sequence[LeaderboardRow]) -> str:
    """Return the sentences that compare the best variant with all other variants except its control.

    See `conclusion` for `rows`. If there are no other variants, return an empty string. If a metric other than the
    accuracy ranks the variants, return an empty string too, because the tests compare accuracies.
    """
    best, others, control = _parts(rows)
    if best is None or not others or best.student.rank_by:
        return ""
    groups = {row.evidence.group for row in others}
    if groups == {None}:
        return "The differences were not tested: a test needs the same 2 or more seeds for each variant."
    if groups == {1} and len(others) > 1:
        return f"None of the other {len(others)} variants differs significantly from the best."
    rest = [row for row in others if row is not control]
    equal = [row.student.variant for row in rest if row.evidence.group == 1]
    worse = [row.student.variant for row in rest if (row.evidence.group or 0) > 1]
    untested = [row.student.variant for row in rest if row.evidence.group is None]
    sentences = []
    if equal:
        verb = "is" if len(equal) == 1 else "are"
        sentences.append(f"{_listed(equal)} {verb} not significantly different from {best.student.variant}.")
    if worse:
        sentences.append(f"Significantly worse than {best.student.variant}: {_listed(worse)}.")
    if untested:
        sentences.append(f"Not tested (other seeds or examples): {_listed(untested)}.")
    return " ".join(sentences)


def _parts(
    rows: Sequence[LeaderboardRow],
) -> tuple[LeaderboardRow | None, Sequence[LeaderboardRow], LeaderboardRow | None]:
    """Return the best variant, the other variants, and the best variant's control. Leave out unfinished variants."""
    finished = [row for row in rows if row.rank is not None]
    if not finished:
        return None, [], None
    best, *others = finished
    return best, others, next((row for row in others if row.student.variant == best.student.control), None)


def _listed(names: Sequence[str]) -> str:
    """Join names for a sentence. A long list is truncated.

    >>> _listed(["kd", "hint"]), _listed([f"kd-{number}" for number in range(9)])
    ('kd, hint', 'kd-0, kd-1, kd-2, kd-3, kd-4, kd-5, kd-6, kd-7 and 1 more')
    """
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"
