"""The quantities of Hinton's claims, from students whose numbers of errors are known."""

from kdmodels.papers.hinton_mnist import ONLY_7_8, TRIPLET, WITHOUT_3, measure
from kdmodels.papers.reproduction import TEACHER, Predictions
from tests.support.papers import predictions, shifted, wrong

ERRORS = {
    TEACHER: [3, 4],
    "hard-labels": [30, 31],
    "distilled": [10, 16],
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


def test_the_quantities_are_those_of_the_claims() -> None:
    values = measure(Known()).values
    expected = {
        "teacher": [3, 4],
        "labels": [30, 31],
        "distilled": [10, 16],
        "gain": [20, 15],
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
