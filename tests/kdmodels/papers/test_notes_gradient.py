"""The measured gradients, against the closed form in numpy."""

import numpy as np
import pytest

from kdmodels.papers.claims import Agreement, judge
from kdmodels.papers.notes_gradient import REPRODUCTION, measure
from kdmodels.papers.reproduction import Predictions


class Seeds:
    """Results of a reproduction without experiments."""

    seeds = range(3)

    def of(self, experiment: str, variant: str) -> Predictions | None:
        return None

    def seconds(self, experiment: str, variant: str) -> list[float]:
        return []


def test_all_claims_of_the_derivation_agree() -> None:
    found = measure(Seeds())
    outcomes = {claim.name: judge(claim, found.values[claim.name]).agreement for claim in REPRODUCTION.claims}
    assert set(outcomes.values()) == {Agreement.AGREES}, outcomes


def test_the_ratio_to_the_limit_is_that_of_the_closed_form() -> None:
    from kdmodels.papers import notes_gradient

    student, teacher = notes_gradient._draw(0)
    rows = measure(Seeds()).tables[0].rows
    for temperature in notes_gradient.TEMPERATURES:
        q, p = (np.exp(logits.double().numpy() / temperature) for logits in (student, teacher))
        gradient = temperature * (q / q.sum(axis=1, keepdims=True) - p / p.sum(axis=1, keepdims=True))
        limit = (student - teacher).double().numpy() / 10
        expected = np.linalg.norm(gradient) / np.linalg.norm(limit)
        assert rows[f"T = {temperature}"][0] == pytest.approx(expected, rel=1e-4)
