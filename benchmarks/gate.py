"""Simulate how often the gate and the leaderboard make errors: python -m benchmarks.gate

A model is simulated by the set of test examples that it classifies correctly. Each example has a probability of being
classified correctly, which is the same for all models. The models are independent. For most examples, this probability
is close to 0 or 1, so two models with the same accuracy (0.90) disagree on only a small share of the examples.

A year has 365 nights with the same test split. Every night, a new challenger is compared with the same champion. Both
routes to promotion are simulated at their null hypothesis. On the first route, the challenger is exactly as good as the
champion. On the second route, the challenger is smaller, and worse by exactly the margin. In both cases, every
promotion is an error.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import student_result, write
from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.correctness import Correctness
from kdmodels.evaluation.gate import decide
from kdmodels.evaluation.looks import Look
from kdmodels.evaluation.ranking import ranked
from kdmodels.evaluation.significance import groups
from kdmodels.evaluation.statistics import wilson_interval
from kdmodels.experiment import Require

TEST, REPEATS, ACCURACY, MARGIN, NIGHTS = 10_000, 1_000, 0.90, 0.002, 365
DISAGREEMENTS = (0.05, 0.10)
CERTAIN = 1e-4  # probabilities within this distance of 0 or 1 are set to 0 or 1
SUSPICIOUS = 1.9  # in standard errors; for a smaller gain, the gate never promotes, as its highest level is 1.5 %


def difficulties(generator: np.random.Generator, examples: int, disagreement: float) -> np.ndarray:
    """Draw each example's probability p of being classified correctly, (N,).

    The probabilities follow the beta distribution with mean `ACCURACY` and E[2 p (1 - p)] = `disagreement`, which is
    the share of examples on which two models disagree.
    """
    spread = ACCURACY * (1 - ACCURACY)
    concentration = disagreement / 2 / (spread - disagreement / 2)
    chances = generator.beta(ACCURACY * concentration, (1 - ACCURACY) * concentration, examples)
    return np.where(chances < CERTAIN, 0.0, np.where(chances > 1 - CERTAIN, 1.0, chances))


def promoted(wins: int, losses: int, examples: int, look: Look, smaller: bool, margin: float = MARGIN) -> bool:
    """Return whether the gate promotes a challenger.

    Only the challenger is correct on `wins` examples, and only the champion is correct on `losses` examples.
    """
    challenger, champion = np.ones(examples, dtype=bool), np.ones(examples, dtype=bool)
    champion[:wins] = challenger[wins : wins + losses] = False
    labels = np.full(examples, "any")
    first, second = (
        Candidate(name, correct, labels, ("any",), size, 10_000, 1.0)
        for name, correct, size in (("challenger", challenger, 1_000 - smaller), ("champion", champion, 1_000))
    )
    return decide(first, None, second, margin=margin, require=Require(), look=look).promoted


def year(
    generator: np.random.Generator, examples: int, disagreement: float, *, smaller: bool, nights: int = NIGHTS
) -> int | None:
    """Simulate a year at the null hypothesis. Return the first night with a promotion, or `None`."""
    chances = difficulties(generator, examples, disagreement)
    champion = generator.random(examples) < chances
    challenger = chances * (1 - MARGIN / ACCURACY) if smaller else chances
    wins = _counts(generator, challenger[~champion], nights)
    losses = _counts(generator, 1 - challenger[champion], nights)
    excess = wins - losses + (MARGIN * examples if smaller else 0.0)
    for night in np.flatnonzero(excess > SUSPICIOUS * np.sqrt(wins + losses)):
        if promoted(int(wins[night]), int(losses[night]), examples, Look(int(night) + 1, nights), smaller):
            return int(night)
    return None


def _counts(generator: np.random.Generator, rates: np.ndarray, nights: int) -> np.ndarray:
    """Draw the number of events that happen in each night, (nights,). `rates` holds the probability of each event."""
    uncertain = rates[(rates > 0) & (rates < 1)].astype(np.float32)
    coins = generator.random((nights, uncertain.size), dtype=np.float32) < uncertain
    return (rates == 1).sum() + coins.sum(axis=1)


def false_promotions(
    repeats: int, examples: int, disagreement: float, *, smaller: bool, nights: int = NIGHTS
) -> dict[str, Any]:
    """Return the share of simulated years with a false promotion.

    The challengers are as good as the champion. If `smaller` is true, they are smaller, and worse by the margin.
    """
    generator = np.random.default_rng([repeats, examples, int(1000 * disagreement), smaller])
    firsts = [year(generator, examples, disagreement, smaller=smaller, nights=nights) for _ in range(repeats)]
    return {
        "null": "smaller, worse by the margin" if smaller else "equal",
        "test examples": examples,
        "disagreement": disagreement,
        "nights": nights,
        **_share("promoted", [first is not None for first in firsts]),
    }


def power(repeats: int, disagreement: float, gain: float, look: Look) -> dict[str, Any]:
    """Return how often the gate promotes a challenger at a look, if the challenger's accuracy is higher by `gain`."""
    generator = np.random.default_rng([repeats, look.number, look.of])
    rates = [(disagreement + gain) / 2, (disagreement - gain) / 2, 1 - disagreement]
    outcomes = [
        promoted(int(wins), int(losses), TEST, look, smaller=False)
        for wins, losses, _ in generator.multinomial(TEST, rates, size=repeats)
    ]
    return {
        "true gain": gain,
        "test examples": TEST,
        "disagreement": disagreement,
        "look": f"{look.number} of {look.of}",
        **_share("promoted", outcomes),
    }


def power_if_smaller(repeats: int, disagreement: float, margin: float, look: Look) -> dict[str, Any]:
    """Return how often the gate promotes a smaller challenger at a look, if both models have the same accuracy."""
    generator = np.random.default_rng([repeats, look.number, look.of])
    rates = [disagreement / 2, disagreement / 2, 1 - disagreement]
    outcomes = [
        promoted(int(wins), int(losses), TEST, look, smaller=True, margin=margin)
        for wins, losses, _ in generator.multinomial(TEST, rates, size=repeats)
    ]
    return {
        "margin": margin,
        "test examples": TEST,
        "disagreement": disagreement,
        "look": f"{look.number} of {look.of}",
        **_share("promoted", outcomes),
    }


def leaderboards(repeats: int, variants: int, seeds: int, gain: float = 0.0) -> dict[str, Any]:
    """Return the share of leaderboards in which some variant differs significantly from the best variant.

    The first variant is better by `gain`. All other variants are equal. The accuracies of the seeds have a standard
    deviation of 2 points, which is far more than the sampling error of 10,000 validation examples.
    """
    generator = np.random.default_rng([repeats, variants, seeds])
    separated = []
    for _ in range(repeats):
        difficulty = generator.random(TEST)
        rows, right = [], {}
        for number in range(variants):
            accuracies = generator.normal(ACCURACY + (gain if number == 0 else 0.0), 0.02, seeds)
            noise = generator.normal(0.0, 0.03, (seeds, TEST))
            outcomes = difficulty + noise < accuracies[:, None]
            rows.append(student_result(f"v{number}", outcomes))
            right[f"v{number}"] = Correctness("validation", outcomes)
        separated.append(max(groups(ranked(rows), right).values()) > 1)
    return {"variants": variants, "seeds": seeds, "true gain": gain, **_share("told from the best", separated)}


def _share(name: str, outcomes: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson_interval(sum(outcomes), len(outcomes))
    return {name: sum(outcomes) / len(outcomes), "95% interval": [round(low, 4), round(high, 4)]}


def main() -> None:
    """Simulate, print and write the results."""
    years = [
        false_promotions(REPEATS, examples, disagreement, smaller=smaller)
        for examples in (2_000, TEST)
        for disagreement in DISAGREEMENTS
        for smaller in (False, True)
    ]
    looks = [Look(number, NIGHTS) for number in (1, 2, 5, 10, 30, 100, 365)]
    found = [power(REPEATS, 0.05, 0.01, look) for look in looks]
    small = [
        power_if_smaller(REPEATS, 0.05, margin, look)
        for margin in (MARGIN, 0.005, 0.01)
        for look in (looks[0], looks[4])
    ]
    boards = [leaderboards(REPEATS, variants, seeds) for variants in (4, 8, 12) for seeds in (3, 5, 10)]
    boards += [leaderboards(REPEATS, 8, seeds, gain=0.05) for seeds in (3, 5, 10)]
    rules = {"repeats": REPEATS, "accuracy": ACCURACY, "margin": MARGIN}
    results = {"false promotions in a year": years, "true gains found": found, "equal and smaller": small}
    write("gate", {**rules, **results, "leaderboards": boards})


if __name__ == "__main__":
    main()
