"""How often the gate errs: python -m benchmarks.gate

Models are simulated by which test examples they get right. A share of the examples is hard: there every model is right
by a coin of its own; all others all models get right, or all wrong. So equal models have an accuracy of 0.90 and
disagree on half of the hard examples. Eight equal variants, of which the best on validation challenges a champion that
is as good; and a challenger that is truly one point better. 10,000 test examples and 5,000 to choose by.
"""

from typing import Any

import numpy as np

from benchmarks.common import write
from kdmodels.experiment import Require
from kdmodels.gate import Candidate, decide
from kdmodels.statistics import wilson_interval

VARIANTS, TEST, VALIDATION, REPEATS, ACCURACY, GAIN = 8, 10_000, 5_000, 1_000, 0.90, 0.01
DISAGREEMENTS = (0.05, 0.10)


def right(generator: np.random.Generator, examples: int, disagreement: float, gains: np.ndarray) -> np.ndarray:
    """(M, N) bool: which examples each of M models gets right; `gains` (M,) are added to ACCURACY."""
    hard = 2 * disagreement
    kind = generator.choice(3, size=examples, p=[hard, ACCURACY - hard / 2, max(0.0, 1 - ACCURACY - hard / 2)])
    coins = generator.random((len(gains), examples)) < (0.5 + gains / hard)[:, None]
    return np.where(kind == 0, coins, kind == 1)


def promoted(generator: np.random.Generator, disagreement: float, gain: float, variants: int) -> bool:
    """Whether the best of so many variants on validation, all with this gain, replaces a champion without."""
    gains = np.full(variants, gain)
    best = int(right(generator, VALIDATION, disagreement, gains).sum(axis=1).argmax())
    on_test = right(generator, TEST, disagreement, np.append(gains, 0.0))
    challenger, champion = (
        Candidate(name, correct, np.full(TEST, "any"), 1_000, 10_000, 1.0)
        for name, correct in (("challenger", on_test[best]), ("champion", on_test[-1]))
    )
    return decide(challenger, None, champion, margin=0.002, require=Require()).promoted


def share(repeats: int, disagreement: float, gain: float, variants: int = VARIANTS) -> dict[str, Any]:
    """How often it is promoted in so many repeats, with the share's 95 % interval."""
    generator = np.random.default_rng([repeats, int(1000 * disagreement), int(1000 * gain)])
    outcomes = np.array([promoted(generator, disagreement, gain, variants) for _ in range(repeats)])
    low, high = wilson_interval(int(outcomes.sum()), repeats)
    return {
        "disagreement": disagreement,
        "true gain": gain,
        "variants": variants,
        "promoted": float(outcomes.mean()),
        "95% interval": [round(low, 4), round(high, 4)],
    }


def main() -> None:
    """Simulate, print and write the result."""
    rows = [share(REPEATS, disagreement, 0.0) for disagreement in DISAGREEMENTS]
    rows += [share(REPEATS, disagreement, GAIN, variants=1) for disagreement in DISAGREEMENTS]
    write("gate", {"repeats": REPEATS, "test examples": TEST, "accuracy": ACCURACY, "rows": rows})


if __name__ == "__main__":
    main()
