"""The exit codes of a run. `tests/kd/commands/test_run.py` runs whole flows."""

import json

import pytest

from kd.exit_codes import DONE, REFUSED, STUDENTS_FAILED
from kd.flow_run import Finished, show_outcome
from tasks import tracking
from tasks.references import Outcome, StudentReference
from tasks.results import ROWS
from tests.conftest import Recorded


@pytest.mark.parametrize(
    ("students_failed", "accepted", "require_promotion", "code"),
    [
        (False, True, True, DONE),
        (False, False, False, DONE),
        (False, False, True, REFUSED),
        (True, True, False, STUDENTS_FAILED),
        (True, False, True, STUDENTS_FAILED),
    ],
)
def test_failed_students_take_precedence_over_a_refusal(
    outcome: Outcome,
    capsys: pytest.CaptureFixture[str],
    students_failed: bool,
    accepted: bool,
    require_promotion: bool,
    code: int,
) -> None:
    verdict = outcome.verdict.model_copy(update={"accepted": accepted})
    finished = Finished(outcome.model_copy(update={"verdict": verdict}), students_failed)
    assert show_outcome(finished, as_json=True, details=False, require_promotion=require_promotion) == code
    assert json.loads(capsys.readouterr().out)["experiment"] == "small"


def test_the_addresses_of_the_students_are_printed_while_an_mlflow_ui_runs(
    recorded: Recorded, outcome: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    students = [StudentReference.model_validate(row) for row in tracking.read_json(recorded.first, ROWS)]
    recorded_outcome = outcome.model_copy(update={"parent_run_id": recorded.first, "students": students})
    finished = Finished(recorded_outcome, students_failed=False)
    with tracking.ui_announced(tracking.configure(), "http://127.0.0.1:1234"):
        show_outcome(finished, as_json=False, details=False, require_promotion=False)
    *_, runs, compare = capsys.readouterr().out.splitlines()
    assert runs.split() == ["runs", f"http://127.0.0.1:1234/{tracking.saved_view_link(recorded.first)}"]
    assert compare.startswith("compare   http://127.0.0.1:1234/#/compare-runs?")
