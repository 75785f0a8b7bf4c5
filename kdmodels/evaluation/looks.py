"""Significance levels for repeated comparisons on one test split. Each of these comparisons is called a look.

A look compares a challenger with the champion on the test split. A false promotion is a promotion of a model that is no
better than the champion. If every look had a level of 5 %, a year of nightly looks would very likely include a false
promotion. Therefore, the levels of all looks at one test split sum to 5 %. The probability of any false promotion is
then at most 5 %, even if the looks are not independent (union bound).

This module computes the levels. `tasks/tracking/registry.py` stores the looks of a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

import numpy as np

ALPHA = 0.05  # the largest probability of a false promotion over all looks at a test split
UNIFORM = 0.5  # the share of ALPHA that is divided equally among the looks, see `Look.level`
SKETCHED = 64  # maximum number of hashes in a sketch of a test split
SAME_SPLIT = 0.5  # test splits with at least this Jaccard similarity count as one split
PREFIX = "kd.looks"
_PAIRS = 400  # pairs in one tag; PostgreSQL truncates the tags of a registered model at 5,000 characters


@dataclass(frozen=True)
class Look:
    """A look: one comparison of a challenger with the champion on a test split.

    Attributes:
        number: The number of this look, counted from 1.
        of: The number of looks that the experiment declares.
    """

    number: int
    of: int

    @property
    def level(self) -> float:
        """The significance level of this look. The level is 0 after the last declared look.

        Half of ALPHA is divided equally among the declared looks, so that late looks have enough power. The other half
        is divided in proportion to 1 / k^2 for look k, so that the first looks have more power.

        >>> round(sum(Look(k, 365).level for k in range(1, 366)), 12)
        0.05
        >>> Look(1, 1).level, round(Look(1, 365).level, 4), round(Look(30, 365).level, 6), Look(366, 365).level
        (0.05, 0.0153, 8.5e-05, 0.0)
        """
        if self.is_spent:
            return 0.0
        total = float(np.sum(1.0 / np.arange(1, self.of + 1) ** 2))
        return ALPHA * (UNIFORM / self.of + (1 - UNIFORM) / (self.number**2 * total))

    @property
    def is_spent(self) -> bool:
        """Whether this look comes after the last declared look."""
        return self.number > self.of

    def __str__(self) -> str:
        return f"look {self.number} of {self.of} at this test split, level {100 * self.level:.2g} %"


@dataclass(frozen=True)
class Ledger:
    """A record of the looks (comparisons) at one test split. Splits with mostly the same examples count as one split.

    Attributes:
        name: The name of the ledger, which is the beginning of the test split's digest.
        of: The number of looks that was declared at the first look. Later changes of `promote.looks` have no effect.
        sketch: The sketch (a small sample of hashes) of the test split at the first look.
        pairs: One short text per look, in the order of the looks. Each text identifies the two compared models.
    """

    name: str
    of: int
    sketch: tuple[int, ...]
    pairs: tuple[str, ...] = ()

    def look(self, pair: str) -> tuple[Look, Self]:
        """Return the look for the comparison of a pair of models, and a ledger that records this look.

        If the ledger already contains the pair, the pair's earlier look and the same ledger are returned. If all
        declared looks are spent, the ledger does not record the new look.

        Args:
            pair: The text that identifies the pair, from `pair_of`.
        """
        if pair in self.pairs:
            return Look(self.pairs.index(pair) + 1, self.of), self
        look = Look(len(self.pairs) + 1, self.of)
        return look, self if look.is_spent else replace(self, pairs=(*self.pairs, pair))

    def tags(self) -> dict[str, str]:
        """Return the ledger as tags of a registered model. `read_ledgers` reads these tags."""
        key = f"{PREFIX}.{self.name}"
        parts = [self.pairs[at : at + _PAIRS] for at in range(0, len(self.pairs), _PAIRS)]
        sketch = "".join(f"{value:08x}" for value in self.sketch)
        return {key: f"{self.of} {sketch}"} | {f"{key}.{number}": " ".join(part) for number, part in enumerate(parts)}


def read_ledgers(tags: Mapping[str, str]) -> list[Ledger]:
    """Return the ledgers that are stored in the tags of a registered model."""
    ledgers = []
    for key, text in tags.items():
        prefix, _, name = key.rpartition(".")
        if prefix != PREFIX:
            continue
        of, _, sketch = text.partition(" ")
        count = sum(other.startswith(f"{key}.") for other in tags)
        pairs = tuple(" ".join(tags[f"{key}.{number}"] for number in range(count)).split())
        values = tuple(int(sketch[at : at + 8], 16) for at in range(0, len(sketch), 8))
        ledgers.append(Ledger(name, int(of), values, pairs))
    return ledgers


def ledger_of(ledgers: list[Ledger], digest: str, sketch: tuple[int, ...], looks: int) -> Ledger:
    """Return the ledger for a test split.

    If an earlier ledger belongs to a split with mostly the same examples, the earlier ledger is returned. Otherwise, a
    new ledger is returned.

    The splits need not be equal, because a growing data folder changes its test split a little before every run. If
    every change started a new ledger, every comparison would count as the first look.

    Args:
        ledgers: The earlier ledgers.
        digest: The digest of the test split.
        sketch: The sketch of the test split, from `sketch_of`.
        looks: The number of declared looks. It is used only for a new ledger.
    """
    nearest = max(ledgers, key=lambda ledger: similarity(ledger.sketch, sketch), default=None)
    if nearest is not None and similarity(nearest.sketch, sketch) >= SAME_SPLIT:
        return nearest
    return Ledger(digest[:12], looks, sketch)


def pair_of(*parts: object) -> str:
    """Return a short text that identifies two compared models and a test split.

    Args:
        parts: The values that identify the models and the split. Equal values give the same text.
    """
    return sha256(repr(parts).encode()).hexdigest()[:8]


def sketch_of(prints: np.ndarray) -> tuple[int, ...]:
    """Return a sketch of a set of examples, for `similarity`.

    The sketch holds the `SKETCHED` smallest hashes of the examples' fingerprints, in ascending order.

    Args:
        prints: One fingerprint per example, uint64, shape (N,).

    References:
        Broder, "On the resemblance and containment of documents", 1997.
    """
    values = np.unique(prints).astype(np.uint64)
    # The fingerprints of a test split are not random, because fingerprints decide which examples are held out.
    # The finaliser of splitmix64 turns them into random hashes.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return tuple(np.unique(values >> np.uint64(32))[:SKETCHED].tolist())


def similarity(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """Return an estimate of the Jaccard similarity of two sets of examples, computed from their sketches.

    >>> similarity((1, 2, 3), (1, 2, 4)), similarity((1, 2), (1, 2))
    (0.5, 1.0)
    """
    size = max(len(first), len(second))
    smallest = sorted({*first, *second})[:size] if size == SKETCHED else sorted({*first, *second})
    return sum(value in first and value in second for value in smallest) / max(1, len(smallest))
