"""The differences between temperatures, from students whose numbers of errors are known."""

from kdmodels.papers.hinton_temperatures import EXPERIMENT, measure, student
from kdmodels.papers.reproduction import Predictions
from tests.support.papers import predictions, wrong

ERRORS = {
    "hard-labels": [30, 31],
    student(800, 8): [12, 13],
    student(800, 20): [10, 16],
    student(30, 1): [50, 51],
    student(30, 2.5): [40, 42],
    student(30, 4): [42, 44],
    student(30, 20): [60, 61],
}


class Known:
    """Students with these numbers of errors."""

    seeds = range(2)

    def of(self, experiment: str, variant: str) -> Predictions | None:
        known = experiment == EXPERIMENT and variant in ERRORS
        return predictions([wrong(count) for count in ERRORS[variant]]) if known else None

    def seconds(self, experiment: str, variant: str) -> list[float]:
        return []


def test_the_quantities_are_those_of_the_claims() -> None:
    values = {name: list(value) for name, value in measure(Known()).values.items()}
    assert values == {
        "alike at 800": [2, -3],
        "too cold at 30": [50 - 41, 51 - 43],
        "too hot at 30": [60 - 41, 61 - 43],
    }


def test_tables_hold_the_temperatures_that_were_run() -> None:
    tables = {table.title.split()[-2]: table.rows for table in measure(Known()).tables}
    assert tables["800"] == {"labels alone": [30, 31], "T = 8": [12, 13], "T = 20": [10, 16]}
    assert list(tables["30"]) == ["T = 1", "T = 2.5", "T = 4", "T = 20"]
    assert tables["300"] == {}
