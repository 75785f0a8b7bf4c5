"""The predictions of a real comparison: they agree with the metrics that the training recorded."""

import numpy as np
import pytest

from kdmodels.report.predictions import Predictions, matrix
from tasks import tracking
from tasks.disagreements import TEMPERATURE
from tasks.results import PREDICTIONS
from tasks.tracking.tags import Tag
from tests.conftest import Recorded


@pytest.fixture
def predictions(recorded: Recorded) -> Predictions:
    return Predictions.model_validate(tracking.read_json(recorded.first, PREDICTIONS))


def test_accuracies_and_calibration_errors_are_those_of_the_stored_networks(
    predictions: Predictions, recorded: Recorded
) -> None:
    run = tracking.get(recorded.first)
    students = {
        child.tags[Tag.VARIANT]: child for child in tracking.children(recorded.first) if child.kind == "student"
    }
    recorded_runs = {**students, "teacher": tracking.get(run.tags[Tag.TEACHER_RUN])}
    assert predictions.networks[0].name == run.tags[Tag.WINNER]
    assert {network.name for network in predictions.networks} == {run.tags[Tag.WINNER], "hard-labels", "teacher"}
    for network in predictions.networks:
        metrics = recorded_runs[network.name].metrics
        assert network.calibration_error == pytest.approx(metrics["val/ece"], abs=1e-5)
        accuracies = matrix(network, predictions.classes).diagonal() / matrix(network, predictions.classes).sum(axis=1)
        assert np.nanmean(accuracies) == pytest.approx(metrics["val/macro_accuracy"])
        assert sum(count for _, _, count in network.confusions) == predictions.examples


def test_pictures_and_distributions_are_recorded(predictions: Predictions) -> None:
    assert 0 < len(predictions.disagreements) <= 8
    for each in predictions.disagreements:
        assert list(each.shares) == [1.0, TEMPERATURE]
        assert all(0 <= share.teacher <= 1 for shares in each.shares.values() for share in shares)
