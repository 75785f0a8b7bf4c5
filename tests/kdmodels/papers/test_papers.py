"""All reproductions: their claims are measured, their experiments exist, and a quick one is small."""

import numpy as np
import pytest

from flows.experiments import PAPERS, load_paper_experiment, load_paper_generator
from kdmodels.errors import UsageError
from kdmodels.papers import REPRODUCTIONS, find_reproduction
from kdmodels.papers.reproduction import TEACHER, Predictions, Reproduction

LABELS = np.arange(10)


class Finished:
    """Results in which all variants of all files are finished. The first seed is right, and the second is wrong."""

    seeds = range(2)

    def __init__(self, reproduction: Reproduction) -> None:
        files = [part.file for part in reproduction.experiments]
        self.variants = {file: [each.name for each in load_paper_experiment(file).variants] for file in files}

    def of(self, experiment: str, variant: str) -> Predictions:
        assert variant == TEACHER or variant in self.variants[experiment]
        logits = np.stack([np.roll(np.eye(10), seed, axis=0) for seed in self.seeds])
        return Predictions([str(digit) for digit in range(10)], logits, LABELS, logits, LABELS)

    def seconds(self, experiment: str, variant: str) -> list[float]:
        assert variant in self.variants[experiment]
        return [1.0, 2.0]


@pytest.mark.parametrize("reproduction", REPRODUCTIONS.values(), ids=REPRODUCTIONS)
def test_the_experiments_of_a_reproduction_are_valid(reproduction: Reproduction) -> None:
    for part in reproduction.experiments:
        assert load_paper_experiment(part.file).name == part.file
        quick = load_paper_experiment(part.file, part.quick)
        assert quick.student.epochs <= 2
        assert quick.teacher.epochs <= 2
        assert quick.runner.kind == "thread"


def test_the_students_of_all_transfer_sets_have_one_teacher_which_is_the_judge_of_the_generators() -> None:
    real = load_paper_experiment("mnist-transfer")
    generators = []
    for part in REPRODUCTIONS["mnist-transfer"].experiments:
        experiment = load_paper_experiment(part.file)
        teacher = experiment.teacher.model_copy(update={"data": None})
        assert (teacher, experiment.student, experiment.variants[0]) == (real.teacher, real.student, real.variants[0])
        if part.generator:
            generator = load_paper_generator(part.generator.file)
            assert (generator.name, generator.judge) == (part.generator.file, real.teacher)
            assert experiment.data.generator == f"models:/{generator.name}"
            assert load_paper_generator(part.generator.file, part.generator.quick).judge.epochs <= 2
            generators.append(generator.generator.kind)
    assert generators == ["vae", "gan", "data_free"]


def test_each_file_belongs_to_one_reproduction() -> None:
    parts = [part for reproduction in REPRODUCTIONS.values() for part in reproduction.experiments]
    files = [part.file for part in parts] + [part.generator.file for part in parts if part.generator]
    assert sorted(files) == sorted(file.stem for file in PAPERS.glob("*.yaml"))


@pytest.mark.parametrize("reproduction", REPRODUCTIONS.values(), ids=REPRODUCTIONS)
def test_all_claims_are_measured_if_all_variants_of_the_files_are_finished(reproduction: Reproduction) -> None:
    found = reproduction.measure(Finished(reproduction))
    names = [claim.name for claim in reproduction.claims]
    assert [name for name in names if name not in found.values] == []
    assert {len(found.values[name]) for name in names} == {2}
    assert all(len(values) == 2 for table in found.tables for values in table.rows.values())


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
