"""The predictions of every seed, read from a real store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.distill import distill
from kdmodels.data import load_dataset
from kdmodels.experiment import Experiment
from kdmodels.papers.reproduction import TEACHER
from tasks import tracking
from tasks.measure_claims import PaperComparison, RecordedResults
from tasks.prepare_data import prepare_data
from tasks.references import LeaderboardReference
from tasks.results import ACCURACY
from tasks.tracking.tags import Tag
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(SMALL)


@pytest.fixture(scope="module")
def comparison(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[PaperComparison]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        outcome = distill(EXPERIMENT)
        leaderboard = LeaderboardReference(
            parent_run_id=outcome.parent_run_id,
            teacher_run_id=outcome.teacher.run_id,
            students=outcome.students,
            winner=outcome.verdict.winner,
        )
        data = prepare_data.fn(EXPERIMENT.data, None, True)
        yield PaperComparison(experiment=EXPERIMENT, data=data, leaderboard=leaderboard)


@pytest.mark.parametrize("variant", ["hard-labels", "kd"])
def test_the_validation_accuracy_of_each_seed_is_the_recorded_one(comparison: PaperComparison, variant: str) -> None:
    found = RecordedResults(range(2), [comparison]).of("small", variant)
    assert found is not None
    (student,) = [student for student in comparison.leaderboard.students if student.variant == variant]
    accuracies = (found.validation.argmax(axis=2) == found.validation_labels).mean(axis=1)
    np.testing.assert_allclose(accuracies, student.per_seed[ACCURACY])
    assert found.test.shape == (2, len(found.test_labels), 10)


def test_the_teacher_and_the_test_labels_are_those_of_the_data(comparison: PaperComparison) -> None:
    found = RecordedResults(range(2), [comparison]).of("small", TEACHER)
    assert found is not None
    test = load_dataset(EXPERIMENT.data).read_test()
    assert torch.equal(torch.from_numpy(found.test_labels), test.labels)
    run = tracking.get(comparison.leaderboard.teacher_run_id or "")
    accuracy = (found.validation[0].argmax(axis=1) == found.validation_labels).mean()
    assert accuracy == pytest.approx(run.metrics[ACCURACY])


def test_each_use_of_the_test_split_is_counted(comparison: PaperComparison) -> None:
    run_id = comparison.leaderboard.parent_run_id
    before = int(tracking.get(run_id).tags[Tag.TEST_READS])
    results = RecordedResults(range(2), [comparison])
    for variant in ("hard-labels", "kd"):
        results.of("small", variant)
    assert int(tracking.get(run_id).tags[Tag.TEST_READS]) == before + 1


def test_comparisons_of_several_seeds_are_joined(comparison: PaperComparison) -> None:
    one, two = (RecordedResults(range(2), [comparison] * count).of("small", "kd") for count in (1, 2))
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(two.test, np.concatenate([one.test, one.test]))


def test_what_was_not_run_has_no_results(comparison: PaperComparison) -> None:
    results = RecordedResults(range(2), [comparison])
    assert results.of("small", "hint") is None
    assert results.of("other", "kd") is None
    assert results.of("other", TEACHER) is None
    assert results.seconds("small", "hint") == []
    (seconds,) = results.seconds("small", "kd")
    assert seconds > 0
