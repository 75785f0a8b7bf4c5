"""All reproductions: their claims are measured, their experiments exist, and a quick one is small."""

import pytest

from flows.experiments import PAPERS, load_paper_experiment
from kdmodels.errors import UsageError
from kdmodels.papers import REPRODUCTIONS, find_reproduction
from kdmodels.papers.reproduction import Reproduction


@pytest.mark.parametrize("reproduction", REPRODUCTIONS.values(), ids=REPRODUCTIONS)
def test_the_experiments_of_a_reproduction_are_valid(reproduction: Reproduction) -> None:
    for part in reproduction.experiments:
        assert load_paper_experiment(part.file).name == part.file
        quick = load_paper_experiment(part.file, part.quick)
        assert quick.student.epochs <= 2
        assert quick.teacher.epochs <= 2
        assert quick.runner.kind == "thread"


def test_each_file_belongs_to_one_reproduction() -> None:
    files = [part.file for reproduction in REPRODUCTIONS.values() for part in reproduction.experiments]
    assert sorted(files) == sorted(file.stem for file in PAPERS.glob("*.yaml"))


@pytest.mark.parametrize("reproduction", REPRODUCTIONS.values(), ids=REPRODUCTIONS)
def test_claims_have_different_names_and_a_range(reproduction: Reproduction) -> None:
    names = [claim.name for claim in reproduction.claims]
    assert len(set(names)) == len(names) > 0
    for claim in reproduction.claims:
        assert claim.range_in_words
        assert claim.low is None or claim.high is None or claim.low < claim.high


def test_an_unknown_reproduction_is_a_usage_error() -> None:
    with pytest.raises(
        UsageError, match=r"^hinton: unknown reproduction\. Did you mean 'hinton-mnist'\? Allowed: notes"
    ):
        find_reproduction("hinton")
