"""The figures of a candidate."""

import numpy as np
import pytest

from kdmodels.evaluation.candidate import Candidate

LABELS = np.array(["cat", "cat", "cat", "owl"])
CANDIDATE = Candidate(
    "kd", np.array([True, True, False, False]), LABELS, ("cat", "owl"), 10, 250_000, 0.5,
    confidences=np.full(4, 0.75), agrees=np.array([True, True, True, True]),
)  # fmt: skip


def test_figures_of_a_candidate() -> None:
    assert (CANDIDATE.accuracy, CANDIDATE.file_mb, CANDIDATE.calibration_error) == (0.5, 0.25, 0.25)
    low, high = CANDIDATE.accuracy_interval
    assert low < 0.5 < high
    assert CANDIDATE.agreement == pytest.approx(4 / (4 + 1.959964**2))  # Wilson's lower bound of n of n: n / (n + z^2)
    assert CANDIDATE.weakest_class()[:2] == ("owl", 0.0)
    assert CANDIDATE.describe()["weakest_class"] == {"name": "owl", "accuracy": 0.0}


def test_unmeasured_figures_are_none() -> None:
    plain = Candidate("kd", np.ones(4, dtype=bool), LABELS, ("cat", "owl"), 10, 1, 0.5)
    assert plain.calibration_error is plain.agreement is None
