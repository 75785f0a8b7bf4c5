"""write_report: the report of a real comparison, and a failure that does not stop the comparison."""

import json
import logging

import pytest

from kdmodels.experiment import Experiment
from kdmodels.report import page
from tasks import tracking
from tasks.cross_validation import Fold
from tasks.prepare_data import prepare_data
from tasks.promotion_candidates import find_candidate, recorded_leaderboard
from tasks.references import Plan
from tasks.results import PLAN, REPORT, ROWS, VERDICT
from tasks.write_report import update_report, write_report
from tests.conftest import Recorded
from tests.support.reports import Page


def test_a_comparison_ends_with_a_report_that_has_the_numbers_of_the_store(recorded: Recorded) -> None:
    written = Page(tracking.artifact(recorded.first, REPORT).read_text()).text
    for row in json.loads(tracking.artifact(recorded.first, ROWS).read_text()):
        assert f"{100 * row['metrics']['val/accuracy']:.2f} ± {100 * row['metrics']['val/accuracy/std']:.2f}" in written
    verdict = json.loads(tracking.artifact(recorded.first, VERDICT).read_text())
    assert verdict["reason"] in written
    assert all(f"{100 * value:.2f} %" in written for value in verdict["test_accuracy"].values())


@pytest.mark.parametrize("prefix", ["seconds/", "memory_mb/"])
def test_time_and_memory_of_the_stages_are_metrics(recorded: Recorded, prefix: str) -> None:
    metrics = tracking.get(recorded.first).metrics
    stages = {name.removeprefix(prefix) for name in metrics if name.startswith(prefix)}
    assert stages == {"data", "teacher", "knowledge", "students", "compare", "promote"}


def test_a_comparison_with_a_failed_student_has_a_report(recorded: Recorded) -> None:
    assert "broken: failed" in Page(tracking.artifact(recorded.other, REPORT).read_text()).text


def test_a_failure_is_a_warning(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(page, "bundle", fail)
    monkeypatch.setattr("tasks.write_report.record_predictions", fail)
    experiment = Experiment.model_validate(tracking.read_json(recorded.first, "experiment.json"))
    data = prepare_data.fn(experiment.data, None)
    plan = Plan.model_validate(tracking.read_json(recorded.first, PLAN))
    fold = Fold(experiment=experiment, data=data, plan=plan, parent=recorded.first)
    leaderboard = recorded_leaderboard(*find_candidate(recorded.first))
    with caplog.at_level(logging.WARNING):
        assert not write_report(leaderboard, fold, {})
    assert "the predictions were not recorded: OSError: no space left" in caplog.text
    assert "the report was not written: OSError: no space left" in caplog.text


def test_a_report_is_written_even_if_the_runs_cannot_be_described(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise OSError("no permission")

    monkeypatch.setattr("tasks.write_report.show_comparison", fail)
    with caplog.at_level(logging.WARNING):
        assert update_report(recorded.first)
    assert "the comparison was not described: OSError: no permission" in caplog.text
