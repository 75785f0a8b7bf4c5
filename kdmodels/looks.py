"""Looks at a test split: how many challengers were compared on it, and how much error each comparison may spend.

If every comparison ran at 5 %, a year of nightly comparisons on one test split would promote an equal model with
probability 1/2. The levels of all looks therefore sum to 5 %, so a false promotion on a test split has at most that
probability, whatever the dependence between the looks (the union bound).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

import numpy as np

ALPHA = 0.05  # the probability of a false promotion, over all looks at a test split together
UNIFORM = 0.5  # the share of ALPHA that all looks get in equal parts; the rest falls as 1 / k^2
SKETCHED = 64  # examples in a sketch
SAME_SPLIT = 0.5  # test splits with at least this Jaccard similarity share their looks
PREFIX = "kd.looks"
_PAIRS = 400  # pairs in a tag: PostgreSQL cuts a registered model's tags off at 5,000 characters


@dataclass(frozen=True)
class Look:
    """Comparison number `number` of the `of` that were declared for a test split."""

    number: int
    of: int

    @property
    def level(self) -> float:
        """The level of this comparison's one-sided test; 0 after the last declared look.

        Half of ALPHA is uniform over the declared looks: late looks keep power. The other half falls as 1 / k^2:
        projects with few looks have power too.

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
        """Whether all declared looks came before this one."""
        return self.number > self.of

    def __str__(self) -> str:
        return f"look {self.number} of {self.of} at this test split, level {100 * self.level:.2g} %"


@dataclass(frozen=True)
class Ledger:
    """The looks at one test split, or at splits that share most of their examples.

    of: the looks that were declared when the first one was taken; a later `promote.looks` does not change the levels.
    sketch: that of the first look's split. pairs: one text per look, in order; it names who was compared with whom.
    """

    name: str
    of: int
    sketch: tuple[int, ...]
    pairs: tuple[str, ...] = ()

    def look(self, pair: str) -> tuple[Look, Self]:
        """Return the look of a pair, and the ledger that holds it. A pair keeps its first look."""
        if pair in self.pairs:
            return Look(self.pairs.index(pair) + 1, self.of), self
        look = Look(len(self.pairs) + 1, self.of)
        return look, self if look.is_spent else replace(self, pairs=(*self.pairs, pair))

    def tags(self) -> dict[str, str]:
        """Return the ledger as tags of a registered model; `read_ledgers` reads them."""
        key = f"{PREFIX}.{self.name}"
        parts = [self.pairs[at : at + _PAIRS] for at in range(0, len(self.pairs), _PAIRS)]
        sketch = "".join(f"{value:08x}" for value in self.sketch)
        return {key: f"{self.of} {sketch}"} | {f"{key}.{number}": " ".join(part) for number, part in enumerate(parts)}


def read_ledgers(tags: Mapping[str, str]) -> list[Ledger]:
    """Return the ledgers among a registered model's tags."""
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
    """Return the ledger of the test split with that digest: an earlier one if the splits share most examples.

    A folder that grows changes its test split a little with every run. If each change began a new count, the count
    would say nothing.
    """
    nearest = max(ledgers, key=lambda ledger: similarity(ledger.sketch, sketch), default=None)
    if nearest is not None and similarity(nearest.sketch, sketch) >= SAME_SPLIT:
        return nearest
    return Ledger(digest[:12], looks, sketch)


def pair_of(*parts: object) -> str:
    """Return a short name of who was compared with whom, and on what."""
    return sha256(repr(parts).encode()).hexdigest()[:8]


def sketch_of(prints: np.ndarray) -> tuple[int, ...]:
    """Return a sketch of a set of examples: the smallest values of a hash of their fingerprints.

    Args:
        prints: (N,) uint64, one fingerprint per example.
    References:
        Broder, "On the resemblance and containment of documents", 1997.
    """
    values = np.unique(prints).astype(np.uint64)
    # The finaliser of splitmix64. The fingerprints themselves decide which examples are held out, so they won't do.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return tuple(np.unique(values >> np.uint64(32))[:SKETCHED].tolist())


def similarity(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """Return the Jaccard similarity of two sets of examples, estimated from their sketches.

    >>> similarity((1, 2, 3), (1, 2, 4)), similarity((1, 2), (1, 2))
    (0.5, 1.0)
    """
    size = max(len(first), len(second))
    smallest = sorted({*first, *second})[:size] if size == SKETCHED else sorted({*first, *second})
    return sum(value in first and value in second for value in smallest) / max(1, len(smallest))
