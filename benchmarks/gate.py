"""How often the gate and the leaderboard err: python -m benchmarks.gate

Models are simulated by the test examples that they get right. Every example has a difficulty of its own; all models are
right there with the same probability, by independent coins. Most examples are nearly always right or nearly always
wrong. So two models of equal accuracy (0.90) disagree on a small share of the examples.

A year is 365 nights on one test split. Every night a new challenger meets the same champion. Both routes to promotion
are simulated at their null hypothesis: a challenger that is exactly as good, and one that is smaller and worse by
exactly the margin. A promotion is false in both.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import write
from kdmodels.experiment import Require
from kdmodels.gate import Candidate, decide
from kdmodels.looks import Look
from kdmodels.report.evidence import Right, groups, ranked
from kdmodels.statistics import wilson_interval

TEST, REPEATS, ACCURACY, MARGIN, NIGHTS = 10_000, 1_000, 0.90, 0.002, 365
DISAGREEMENTS = (0.05, 0.10)
CERTAIN = 1e-4  # an example this easy, or this hard, is the same for all models
SUSPICIOUS = 1.9  # standard errors; the gate promotes nothing below, since its largest level is 1.5 %


def difficulties(generator: np.random.Generator, examples: int, disagreement: float) -> np.ndarray:
    """(N,), the probability that a model is right: beta-distributed, so that E[2 p (1 - p)] is the disagreement."""
    spread = ACCURACY * (1 - ACCURACY)
    concentration = disagreement / 2 / (spread - disagreement / 2)
    chances = generator.beta(ACCURACY * concentration, (1 - ACCURACY) * concentration, examples)
    return np.where(chances < CERTAIN, 0.0, np.where(chances > 1 - CERTAIN, 1.0, chances))


def promoted(wins: int, losses: int, examples: int, look: Look, smaller: bool, margin: float = MARGIN) -> bool:
    """Whether the gate promotes a challenger that is right alone on `wins` examples, the champion on `losses`."""
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
    """The first night on which a challenger at the null hypothesis is promoted; None: never."""
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
    """(nights,), how many of the events with these probabilities happen each night."""
    uncertain = rates[(rates > 0) & (rates < 1)].astype(np.float32)
    coins = generator.random((nights, uncertain.size), dtype=np.float32) < uncertain
    return (rates == 1).sum() + coins.sum(axis=1)


def false_promotions(
    repeats: int, examples: int, disagreement: float, *, smaller: bool, nights: int = NIGHTS
) -> dict[str, Any]:
    """In what share of years a challenger that is no better, or worse by the margin, is promoted."""
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
    """How often a challenger that is truly better by `gain` is promoted at that look."""
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
    """How often a challenger that is as good and smaller is promoted at that look."""
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
    """How often a leaderboard tells a variant from the best; all are equal but the first, which is better by `gain`.

    The accuracies of the seeds vary by 2 points, far more than 10,000 validation examples can explain.
    """
    generator = np.random.default_rng([repeats, variants, seeds])
    told = []
    for _ in range(repeats):
        difficulty = generator.random(TEST)
        rows, right = [], {}
        for number in range(variants):
            accuracies = generator.normal(ACCURACY + (gain if number == 0 else 0.0), 0.02, seeds)
            noise = generator.normal(0.0, 0.03, (seeds, TEST))
            outcomes = difficulty + noise < accuracies[:, None]
            rows.append(_row(f"v{number}", outcomes))
            right[f"v{number}"] = Right("validation", outcomes)
        told.append(max(groups(ranked(rows), right).values()) > 1)
    return {"variants": variants, "seeds": seeds, "true gain": gain, **_share("told from the best", told)}


def _row(name: str, outcomes: np.ndarray) -> dict[str, Any]:
    accuracies = outcomes.mean(axis=1)
    return {
        "variant": name,
        "control": "v0",
        "run_id": name,
        "status": "FINISHED",
        "seeds": list(range(len(accuracies))),
        "metrics": {"val/accuracy": float(accuracies.mean())},
        "per_seed": {"val/accuracy": accuracies.tolist()},
        "parameters": 1,
    }


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
