"""The quantities of Hinton's claims, from students whose numbers of errors are known."""

import numpy as np

from kdmodels.papers.hinton_mnist import ONLY_7_8, TRIPLET, WITHOUT_3, measure, student
from kdmodels.papers.reproduction import TEACHER, Predictions

CLASSES = [str(digit) for digit in range(10)]
LABELS = np.repeat(np.arange(10), 20)
ERRORS = {
    TEACHER: [3, 4],
    "hard-labels": [30, 31],
    student(800, 8): [12, 13],
    student(800, 20): [10, 16],
    student(30, 1): [50, 51],
    student(30, 2.5): [40, 42],
    student(30, 4): [42, 44],
    student(30, 20): [60, 61],
}


class Known:
    """Students with these numbers of errors. The students that saw no 3, and only 7 and 8, need a bias correction."""

    seeds = range(2)

    def of(self, experiment: str, variant: str) -> Predictions | None:
        if experiment == TRIPLET and variant in ERRORS:
            return predictions([wrong(count) for count in ERRORS[variant]])
        if experiment == WITHOUT_3 and variant == "distilled":
            return predictions([shifted([3], -6)] * 2)
        if experiment == ONLY_7_8 and variant == "distilled":
            return predictions([shifted([7, 8], 6)] * 2)
        return None

    def seconds(self, experiment: str, variant: str) -> list[float]:
        return []


def wrong(count: int) -> np.ndarray:
    logits = np.eye(10)[LABELS] * 5
    logits[:count] = np.roll(logits[:count], 1, axis=1)
    return logits


def shifted(classes: list[int], shift: float) -> np.ndarray:
    """Perfect logits, to which a number was added for some classes."""
    logits = np.eye(10)[LABELS] * 5
    logits[:, classes] += shift
    return logits


def predictions(logits: list[np.ndarray]) -> Predictions:
    return Predictions(CLASSES, np.stack(logits), LABELS, np.stack(logits), LABELS)


def test_the_quantities_are_those_of_the_claims() -> None:
    values = measure(Known()).values
    expected = {
        "teacher": [3, 4],
        "labels": [30, 31],
        "distilled": [10, 16],
        "gain": [20, 15],
        "alike at 800": [2, -3],
        "too cold at 30": [50 - 41, 51 - 43],
        "too hot at 30": [60 - 41, 61 - 43],
        "omitted": [20, 20],
        "omitted, on the classes": [20, 20],
        "omitted, corrected": [0, 0],
        "omitted, corrected, on the classes": [0, 0],
        "alone": [160, 160],
        "alone, on the classes": [0, 0],
        "alone, corrected": [0, 0],
        "alone, corrected, on the classes": [0, 0],
    }
    assert {name: list(value) for name, value in values.items()} == expected


def test_tables_hold_the_temperatures_that_were_run() -> None:
    tables = {table.title.split()[-2]: table.rows for table in measure(Known()).tables}
    assert tables["800"] == {"labels alone": [30, 31], "T = 8": [12, 13], "T = 20": [10, 16]}
    assert list(tables["30"]) == ["T = 1", "T = 2.5", "T = 4", "T = 20"]
    assert tables["300"] == {}
