"""What tells variants apart: tests over seeds and over examples, corrected for their number, and the bootstrap of both.

A test over seeds takes the validation examples as given, one over examples the trained networks: a variant is told from
another where both tell it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np

from kdmodels.statistics import holm, mcnemar_exact, resampled_means, t_interval, t_test, wilson_interval

ACCURACY = "val/accuracy"
FINISHED = "FINISHED"
LEVEL = 0.05  # of all pairs of variants together
RESAMPLES = 2_000
OF_EXAMPLES = ["examples low", "examples high"]
OVER_SEEDS = ["vs control", "vs control low", "vs control high", "vs control p", "vs control holm", "vs best holm"]
OVER_EXAMPLES = ["bootstrap low", "bootstrap high", "vs control mcnemar", "vs best mcnemar", "wins"]
EVIDENCE = [*OF_EXAMPLES, *OVER_SEEDS, *OVER_EXAMPLES, "group"]

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Right:
    """Which validation examples a run's seeds get right: `outcomes` (S, N) bool, in the order of the seeds.

    `split` is the validation split's digest: what is of different examples is not compared.
    """

    split: str
    outcomes: np.ndarray

    @property
    def stored(self) -> np.ndarray:
        """(N,), those of the best seed, of equals the first: of the network that is stored, but for cross-validation.

        There each fold has stored its own best, and this is the seed that is best over all.
        """
        return self.outcomes[self.outcomes.sum(axis=1).argmax()]


UNKNOWN: Mapping[str, Right] = MappingProxyType({})


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The finished rows, the highest mean validation accuracy first.

    Ties go to fewer parameters, then to the control, then to the first in the file: what is simpler is to be beaten.
    """

    def place(row: Row) -> tuple[float, int, bool]:
        # Rounded, since the mean of equal figures depends in its last bit on their order.
        return -round(row["metrics"][ACCURACY], 12), row["parameters"], row["variant"] != row["control"]

    return sorted((row for row in rows if row["status"] == FINISHED), key=place)


def evidence(rows: Sequence[Row], right: Mapping[str, Right] = UNKNOWN) -> list[Row]:
    """How sure each row's figure is, and how it stands to its control, the same student on labels alone, and the best.

    Args:
        rows: as of `kdmodels.report.leaderboard.leaderboard`; control and best are among them.
        right: by run_id, of those runs of which it is known.
    Returns:
        EVIDENCE, in the rows' order. `examples`: Wilson's 95 % interval of its mean accuracy, over examples.
        `vs control`: the difference of the means; its 95 % interval and two-sided p-value by Student's t test, both
        paired by seed, as equal seeds share what chance decides; `bootstrap`: its 95 % interval over seeds and
        examples, drawn together. `mcnemar`: the p-value of McNemar's exact test of the stored networks over examples.
        The p-values `holm` and `mcnemar` are corrected after Holm: `vs control` for all rows that have one, `vs best`
        for all pairs of rows, because the best is chosen by the same accuracies. `wins`: in what share of
        the bootstrap's resamples it is the best. `group`: as `groups` says. What can't be had is None: without a
        control that has finished, of the control itself; t intervals and tests where the seeds differ or the
        differences have no spread, where there is one or all are equal; what needs `right`, without it.
    """
    order = ranked(rows)
    finished = {row["variant"]: row for row in order}
    controls = [finished.get(row["control"]) if row["status"] == FINISHED else None for row in rows]
    lines: list[Row] = [dict.fromkeys(EVIDENCE) for _ in rows]
    for line, row, control in zip(lines, rows, controls, strict=True):
        own = right.get(row["run_id"])
        if own is not None and row["status"] == FINISHED:
            seeds, examples = own.outcomes.shape
            line["examples low"], line["examples high"] = wilson_interval(own.outcomes.sum() / seeds, examples)
        if control is not None and control is not row and _same_examples(row, control, right):
            line["vs control"] = row["metrics"][ACCURACY] - control["metrics"][ACCURACY]
            if differences := _by_seed(row, control):
                line["vs control low"], line["vs control high"] = t_interval(differences) or (None, None)
                line["vs control p"] = t_test(differences)
    columns = {
        "vs control holm": [line["vs control p"] for line in lines],
        "vs control mcnemar": [_over_examples(*pair, right) for pair in zip(rows, controls, strict=True)],
    }
    for name, values in columns.items():
        for line, value in zip(lines, holm(values), strict=True):
            line[name] = value
    for name, test in (("vs best holm", _over_seeds), ("vs best mcnemar", _over_examples)):
        pairs = corrected_pairs(order, right, test)
        for line, row in zip(lines, rows, strict=True):
            line[name] = pairs.get(frozenset((order[0]["variant"], row["variant"]))) if order else None
    _bootstrap(dict(zip((row["variant"] for row in rows), lines, strict=True)), order, right)
    numbers = groups(order, right)
    for line, row in zip(lines, rows, strict=True):
        line["group"] = numbers.get(row["variant"])
    return lines


def groups(order: Sequence[Row], right: Mapping[str, Right]) -> dict[str, int]:
    """Return the group of each variant, counted from 1.

    Group 1 holds the best variant and every variant that is not significantly different from it; the next group is
    formed in the same way from the rest. Two variants differ significantly if both tests say so, over seeds and over
    examples, at 5 % of all pairs together. A variant without a test over seeds is in no group: one seed may be luck.
    """
    corrected = corrected_pairs(order, right, _over_both)
    numbers: dict[str, int] = {}
    rest = [row["variant"] for row in order]
    number = 0
    while rest:
        number += 1
        head, *others = rest
        numbers[head] = number
        p_values = {name: corrected[frozenset((head, name))] for name in others}
        numbers |= {name: number for name, p in p_values.items() if p is not None and p >= LEVEL}
        rest = [name for name, p in p_values.items() if p is not None and p < LEVEL]
    return numbers


def corrected_pairs(
    order: Sequence[Row], right: Mapping[str, Right], test: Callable[[Row, Row, Mapping[str, Right]], float | None]
) -> dict[frozenset[str], float | None]:
    """Return the p-value of each pair of variants, corrected after Holm for the number of all pairs.

    The best variant is chosen by the same accuracies that are tested. A correction for the k - 1 comparisons with it
    would be too small: the best of k equal variants is ahead by luck, of every other one.
    """
    pairs = list(combinations(order, 2))
    names = [frozenset((one["variant"], other["variant"])) for one, other in pairs]
    return dict(zip(names, holm([test(other, one, right) for one, other in pairs]), strict=True))


def _over_both(row: Row, other: Row, right: Mapping[str, Right]) -> float | None:
    """The larger p-value: below 5 % where both are, for which there is nothing to correct (Berger 1982)."""
    if _same_examples(row, other, right) and _by_seed(row, other) == [0.0] * max(2, len(row["seeds"])):
        return 1.0  # no test can be made, and none is needed
    p, q = _over_seeds(row, other, right), _over_examples(row, other, right)
    return p if p is None or q is None else max(p, q)


def _over_seeds(row: Row, other: Row, right: Mapping[str, Right]) -> float | None:
    if not _same_examples(row, other, right):
        return None
    differences = _by_seed(row, other)
    return t_test(differences) if differences else None


def _same_examples(row: Row, other: Row, right: Mapping[str, Right]) -> bool:
    """As far as is known: of old runs it is not."""
    own, theirs = right.get(row["run_id"]), right.get(other["run_id"])
    return own is None or theirs is None or own.split == theirs.split


def _by_seed(row: Row, other: Row) -> list[float] | None:
    """The differences of seeds' accuracies; None where the two have not the same seeds."""
    own, theirs = (dict(zip(each["seeds"], each["per_seed"][ACCURACY], strict=True)) for each in (row, other))
    if own.keys() != theirs.keys():
        return None
    # Rounded, since equal differences of accuracies may differ in their last bit.
    return [round(own[seed] - theirs[seed], 12) for seed in own]


def _over_examples(row: Row, other: Row | None, right: Mapping[str, Right]) -> float | None:
    if other is None or other is row:
        return None
    own, theirs = right.get(row["run_id"]), right.get(other["run_id"])
    if own is None or theirs is None or own.split != theirs.split:
        return None
    return mcnemar_exact(own.stored, theirs.stored).p_value


def _bootstrap(lines: Mapping[str, Row], order: Sequence[Row], right: Mapping[str, Right]) -> None:
    """Fill in what needs resamples, of the rows on the same examples as the best."""
    split = right[order[0]["run_id"]].split if order and order[0]["run_id"] in right else None
    drawn = [row for row in order if row["run_id"] in right and right[row["run_id"]].split == split]
    if not drawn:
        return
    # A generator of its own: the same rows get the same figures.
    means = resampled_means(
        [right[row["run_id"]].outcomes for row in drawn], resamples=RESAMPLES, generator=np.random.default_rng(0)
    ).round(12)
    wins = np.bincount(means.argmax(axis=1), minlength=len(drawn)) / RESAMPLES  # of equals the first, as in the ranking
    columns = {row["variant"]: means[:, place] for place, row in enumerate(drawn)}
    for place, row in enumerate(drawn):
        line, control = lines[row["variant"]], columns.get(row["control"])
        line["wins"] = float(wins[place])
        if control is not None and row["control"] != row["variant"]:
            ends = np.quantile(columns[row["variant"]] - control, [0.025, 0.975])
            line["bootstrap low"], line["bootstrap high"] = map(float, ends)
