"""How often the gate errs, in simulations. `benchmarks/gate.py` simulates more."""

import numpy as np
import pytest

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.gate import decide
from kdmodels.evaluation.looks import Look
from kdmodels.experiment import Require

FREE = Require()
NIGHTS, EXAMPLES, ACCURACY, MARGIN = 365, 2_000, 0.90, 0.002


def model(name: str, correct: np.ndarray, parameters: int = 1000) -> Candidate:
    return Candidate(name, correct, np.full(correct.size, "any"), ("any",), parameters, 10_000, 1.0)


def is_promoted(wins: int, losses: int, n: int, look: Look, *, smaller: bool = False) -> bool:
    """Let the gate decide about a challenger that alone is right on `wins` examples and alone wrong on `losses`."""
    challenger, champion = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    champion[:wins] = challenger[wins : wins + losses] = False
    pair = model("challenger", challenger, 1000 - smaller), model("champion", champion)
    return decide(pair[0], None, pair[1], margin=MARGIN, require=FREE, look=look).promoted


def has_false_promotion(generator: np.random.Generator, disagreement: float, *, smaller: bool) -> bool:
    """Simulate a year of nightly challengers that are no better, or smaller and worse by the margin.

    Each example has a beta-distributed probability of a correct prediction, so that the expected disagreement of two
    models is `disagreement`.
    """
    concentration = disagreement / 2 / (ACCURACY * (1 - ACCURACY) - disagreement / 2)
    chances = generator.beta(ACCURACY * concentration, (1 - ACCURACY) * concentration, EXAMPLES)
    champion = generator.random(EXAMPLES) < chances
    if smaller:
        chances = chances * (1 - MARGIN / ACCURACY)
    correct = generator.random((NIGHTS, EXAMPLES), dtype=np.float32) < chances.astype(np.float32)
    wins, losses = (correct & ~champion).sum(axis=1), (~correct & champion).sum(axis=1)
    excess = wins - losses + (MARGIN * EXAMPLES if smaller else 0.0)
    # Below 1.9 standard errors the gate never promotes, because its largest level is 1.5 %.
    return any(
        is_promoted(int(wins[night]), int(losses[night]), EXAMPLES, Look(int(night) + 1, NIGHTS), smaller=smaller)
        for night in np.flatnonzero(excess > 1.9 * np.sqrt(wins + losses))
    )


@pytest.mark.parametrize("disagreement", [0.05, 0.10])
@pytest.mark.parametrize("smaller", [False, True])
def test_a_year_of_nightly_challengers_promotes_falsely_in_at_most_5_percent(
    disagreement: float, smaller: bool
) -> None:
    """At a level of 5 % every night, an equal challenger would be promoted in 53 % of the years."""
    generator = np.random.default_rng([int(1000 * disagreement), smaller])
    years = sum(has_false_promotion(generator, disagreement, smaller=smaller) for _ in range(100))
    assert years <= 10  # Binomial(100, 0.05) exceeds 10 with probability 0.01


def test_a_gain_of_1_point_is_found_at_look_30_in_most_cases() -> None:
    """The one-sided level is 8.5e-5, z = 3.76. The gain is worth z = 4.47, so it is found in Phi(0.71) = 76 %."""
    rates = [(0.05 + 0.01) / 2, (0.05 - 0.01) / 2, 0.95]
    draws = np.random.default_rng(0).multinomial(10_000, rates, size=400)
    promoted = [is_promoted(int(wins), int(losses), 10_000, Look(30, 365)) for wins, losses, _ in draws]
    assert 0.70 <= np.mean(promoted) <= 0.82


def test_equally_good_models_seldom_replace_each_other() -> None:
    """Draw 500 pairs of equal accuracy. Every promotion is false; the expected share is at most alpha."""
    generator, promotions = np.random.default_rng(0), 0
    for _ in range(500):
        # Hard examples are hard for both, so the two agree more often than independent models.
        difficulty = generator.uniform(0.6, 1.0, size=400)
        a, b = (model(name, generator.uniform(size=400) < difficulty) for name in "ab")
        promotions += decide(a, None, b, margin=0.002, require=FREE).promoted
    # Binomial(500, 0.05) exceeds 37 with probability 0.01.
    assert 0 < promotions <= 37


def test_a_better_model_is_usually_found() -> None:
    """A gain of 5 points on 2,000 examples is seldom missed."""
    generator, promotions = np.random.default_rng(0), 0
    for _ in range(50):
        champion = model("v1", generator.uniform(size=2000) < 0.90)
        challenger = model("kd", generator.uniform(size=2000) < 0.95)
        promotions += decide(challenger, None, champion, margin=0.002, require=FREE).promoted
    assert promotions >= 48
