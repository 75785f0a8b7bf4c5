"""Papers' claims, the decision whether measured values agree with a claim, and the result of a reproduction."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import sqrt

import numpy as np
from pydantic import BaseModel, ConfigDict

from kdmodels.evaluation.statistics import t_interval


class Document(BaseModel):
    """Base class of the models in this module. The models are frozen and can be written as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Claim(Document):
    """A paper's claim about one quantity, and the range of measured values that agree with the claim.

    Attributes:
        name: The name of the quantity in the measurements of the reproduction.
        text: The quantity, in words.
        published: The published value, in the words of the paper. Empty if the paper states no number.
        source: The paper and the section.
        low: The lower end of the range. `None` if there is no lower end.
        high: The upper end of the range. `None` if there is no upper end.
        unit: The unit of the quantity.
    """

    name: str
    text: str
    published: str
    source: str
    low: float | None = None
    high: float | None = None
    unit: str = ""

    @property
    def range_in_words(self) -> str:
        """The range of values that agree with the claim, in words.

        >>> Claim(name="errors", text="test errors", published="67", source="Hinton", high=83.4).range_in_words
        'at most 83.4'
        """
        if self.low is None:
            return f"at most {self.high:.4g}"
        return f"at least {self.low:.4g}" if self.high is None else f"{self.low:.4g} to {self.high:.4g}"


class Agreement(StrEnum):
    """The decision whether the measured values agree with a claim. See `judge`."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


class ClaimOutcome(Document):
    """A claim, the measured values, and the decision whether the values agree with the claim.

    Attributes:
        values: The measured values, one per seed.
        mean: The mean of the values. `None` if there are none.
        interval: The 95 % t interval of the mean over seeds. `None` if there is one value, or if all are equal.
    """

    claim: Claim
    values: list[float]
    mean: float | None
    interval: tuple[float, float] | None
    agreement: Agreement


def judge(claim: Claim, values: Sequence[float]) -> ClaimOutcome:
    """Decide whether measured values agree with a claim.

    The values agree if their whole 95 % interval is inside the range of the claim. They disagree if the whole interval
    is outside. Otherwise, the claim is undecided. It is also undecided after a single seed, which gives no interval.

    Args:
        claim: The claim.
        values: The measured values, one per seed. If the list is empty, the decision is `NOT_RUN`.

    >>> claim = Claim(name="gain", text="gain", published="72", source="Hinton", low=36)
    >>> [judge(claim, values).agreement.value for values in ([50, 52, 51], [30, 50], [1, 2, 3], [50], [])]
    ['agrees', 'undecided', 'disagrees', 'undecided', 'not run']
    """
    interval = t_interval(values) if values else None
    low, high = -np.inf if claim.low is None else claim.low, np.inf if claim.high is None else claim.high
    if not values:
        agreement = Agreement.NOT_RUN
    elif interval and low <= interval[0] and interval[1] <= high:
        agreement = Agreement.AGREES
    elif interval and (interval[1] < low or interval[0] > high):
        agreement = Agreement.DISAGREES
    else:
        agreement = Agreement.UNDECIDED
    mean = float(np.mean(values)) if values else None
    return ClaimOutcome(claim=claim, values=list(values), mean=mean, interval=interval, agreement=agreement)


def chance(count: int) -> float:
    """Return how much a published number of errors can differ by chance: two standard errors of a Poisson count.

    >>> chance(100)
    20.0
    """
    return 2 * sqrt(count)


class Table(Document):
    """A table of measured values that are not part of a claim, such as the errors at each temperature.

    Attributes:
        title: What is measured.
        unit: The unit of the values.
        rows: The values of each row, one per seed, by the name of the row.
    """

    title: str
    unit: str
    rows: dict[str, list[float]]


class Measurements(Document):
    """The measured values of each quantity, one per seed, by the name of the quantity, and tables of further values."""

    values: Mapping[str, Sequence[float]]
    tables: Sequence[Table] = ()


class ReproductionResult(Document):
    """The result of `kd reproduce`.

    Attributes:
        name: The name of the reproduction.
        title: The title of the reproduction.
        papers: The papers whose claims are tested.
        command: The command that repeats the reproduction.
        quick: Whether the experiments were reduced with `--quick`. Such a result is no evidence for or against a claim.
        seeds: The number of finished seeds.
        planned_seeds: The number of seeds that the command asked for.
        seconds: The duration of this command. The time of runs that earlier commands finished is not included.
        finished: The time of the last finished seed in UTC, in ISO 8601 format.
        versions: The versions of the libraries.
        differences: How the reproduction differs from the paper.
        runs: The ids of the comparisons in MLflow.
    """

    name: str
    title: str
    papers: list[str]
    command: str
    quick: bool
    seeds: int
    planned_seeds: int
    seconds: float
    finished: str
    versions: dict[str, str]
    differences: list[str]
    runs: list[str]
    outcomes: list[ClaimOutcome]
    tables: list[Table]

    @property
    def summary(self) -> str:
        """The number of claims with each decision, in words, e.g. `5 agree, 1 is undecided`."""
        words = {
            Agreement.AGREES: ("agrees", "agree"),
            Agreement.DISAGREES: ("disagrees", "disagree"),
            Agreement.UNDECIDED: ("is undecided", "are undecided"),
            Agreement.NOT_RUN: ("was not run", "were not run"),
        }
        counts = {kind: sum(outcome.agreement == kind for outcome in self.outcomes) for kind in words}
        return ", ".join(f"{count} {words[kind][count > 1]}" for kind, count in counts.items() if count)
