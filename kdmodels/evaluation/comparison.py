"""The comparison of two models on the same test examples."""

from dataclasses import dataclass, replace

import numpy as np

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.looks import ALPHA, Look
from kdmodels.evaluation.statistics import Interval, mcnemar_exact, paired_difference_interval


@dataclass(frozen=True)
class Comparison:
    """The result of comparing the challenger with another model on the same examples.

    The challenger is the model that could replace the champion.

    Attributes:
        against: The name of the other model.
        n: The number of examples.
        b: The number of examples that only the challenger classifies correctly.
        c: The number of examples that only the other model classifies correctly.
        p_value: The two-sided p-value of McNemar's exact test.
        p_better: The one-sided p-value of McNemar's exact test. The null hypothesis is that the challenger is not
            better.
        difference: The challenger's accuracy minus the other model's accuracy, (b - c) / n.
        interval: Tango's two-sided 95 % interval of the difference.
        level: The significance level of the one-sided test. 0 if all declared looks (comparisons) are spent.
        lower_bound: Tango's one-sided lower bound of the difference, at the significance level `level`. -1 if the level
            is 0.
        decides: Whether the comparison decides on a promotion. If false, the comparison is only reported.
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
        """Whether the challenger's accuracy is significantly higher than the other model's.

        If the comparison decides on a promotion, the test is one-sided at the level `level`. Otherwise, the test is
        two-sided at the level `ALPHA`.
        """
        return self.difference > 0 and (self.p_better < self.level if self.decides else self.p_value < ALPHA)

    @property
    def worse(self) -> bool:
        """Whether the challenger's accuracy is significantly lower, by the two-sided test at `ALPHA`."""
        return self.difference < 0 and self.p_value < ALPHA

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{100 * self.difference:+z.2f} points on {self.n} test examples, "
            f"95% interval {100 * low:+z.2f} to {100 * high:+z.2f}, {self._p_in_words()}"
        )

    def _p_in_words(self) -> str:
        if self.decides:
            return one_sided_p(self.p_better)
        return f"p = {self.p_value:.3f}" if self.p_value >= 0.001 else "p < 0.001"


def one_sided_p(p: float) -> str:
    """Format a one-sided p-value with enough digits for a comparison with a look's significance level.

    >>> one_sided_p(0.0123), one_sided_p(1e-6)
    ('one-sided p = 0.012', 'one-sided p = 1.0e-06')
    """
    return f"one-sided p = {p:.3f}" if p >= 0.001 else f"one-sided p = {p:.1e}"


def compare(challenger: Candidate, other: Candidate, look: Look | None) -> Comparison:
    """Compare two models on the same examples, with McNemar's exact test and Tango's interval.

    Args:
        challenger: The model that could replace the champion.
        other: The model that the challenger is compared with.
        look: The number of this comparison on the test split, and the number of declared comparisons. Both set the
            significance level. `None` if the comparison is only reported and does not decide on a promotion.

    Raises:
        ValueError: The two models have different numbers of examples.
    """
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


def compare_on_shared_classes(challenger: Candidate, champion: Candidate, look: Look) -> Comparison | None:
    """Compare the challenger with the champion on the examples whose class the champion can predict.

    Args:
        challenger, champion: The two models, with results on the same examples.
        look: As for `compare`.

    Returns:
        The comparison. `None` if the champion can't predict the class of any example.
    """
    shared = np.isin(challenger.labels, champion.classes)
    if not shared.any():
        return None
    return compare(_only(challenger, shared), _only(champion, np.isin(champion.labels, champion.classes)), look)


def _only(candidate: Candidate, rows: np.ndarray) -> Candidate:
    return replace(candidate, correct=candidate.correct[rows], labels=candidate.labels[rows])
