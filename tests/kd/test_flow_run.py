"""The exit codes of a run. `tests/kd/commands/test_run.py` runs whole flows."""

import json

import pytest

from kd.exit_codes import DONE, REFUSED, STUDENTS_FAILED
from kd.flow_run import Finished, show_outcome
from tasks.references import Outcome


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
