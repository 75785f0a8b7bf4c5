"""An ensemble's logits are those of one teacher whose softened distribution is its members' mean."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from kdmodels import losses
from kdmodels.randomness import generator_for

MEMBERS = torch.randn(5, 3, 4, generator=generator_for(0, "members"), dtype=torch.float64) * 3
STUDENT = torch.randn(5, 4, generator=generator_for(0, "student"), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_softened_distribution_is_the_mean_of_scipys(temperature: float) -> None:
    joined = losses.ensemble_logits(MEMBERS, temperature=temperature)
    expected = softmax(MEMBERS.numpy() / temperature, axis=2).mean(axis=1)
    np.testing.assert_allclose(softmax(joined.numpy() / temperature, axis=1), expected, rtol=1e-12)
    student = softmax(STUDENT.numpy() / temperature, axis=1)
    divergence = temperature**2 * (expected * np.log(expected / student)).sum(axis=1)
    found = losses.soft_targets(STUDENT, joined, temperature=temperature)
    np.testing.assert_allclose(found.numpy(), divergence, rtol=1e-10)


def test_at_high_temperatures_it_is_the_mean_of_the_centred_logits() -> None:
    joined = losses.ensemble_logits(MEMBERS, temperature=1e6)
    centred = MEMBERS - MEMBERS.mean(dim=2, keepdim=True)
    torch.testing.assert_close(joined - joined.mean(dim=1, keepdim=True), centred.mean(dim=1), rtol=0, atol=1e-4)


def test_it_is_not_the_distribution_of_the_mean_logits() -> None:
    """The geometric mean, which a sure member outvotes."""
    two = torch.tensor([[[20.0, 0.0], [0.0, 1.0]]])
    assert losses.ensemble_logits(two).softmax(dim=1)[0, 0].item() == pytest.approx((1 + 1 / (1 + np.e)) / 2, rel=1e-4)
    assert two.mean(dim=1).softmax(dim=1)[0, 0] > 0.99


@given(
    st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    st.floats(0.01, 1e4),
)
def test_it_is_finite_and_the_order_and_number_of_equal_members_are_no_matter(
    rows: list[list[float]], temperature: float
) -> None:
    members = torch.tensor([rows], dtype=torch.float64)
    joined = losses.ensemble_logits(members, temperature=temperature)
    assert joined.isfinite().all()
    assert (joined <= 0).all()
    for same in (members.flip(1), members.repeat(1, 2, 1), members + 5):
        torch.testing.assert_close(losses.ensemble_logits(same, temperature=temperature), joined, rtol=1e-6, atol=1e-6)


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, M, K\), not \(5, 4\)"):
        losses.ensemble_logits(STUDENT)
    with pytest.raises(ValueError, match="temperature 0 is not positive"):
        losses.ensemble_logits(MEMBERS, temperature=0)


def test_of_standardised_members_the_mean_distribution_is_taught() -> None:
    def softened(logits: np.ndarray) -> np.ndarray:
        deviation = logits.std(axis=-1, ddof=1, keepdims=True)
        return softmax((logits - logits.mean(axis=-1, keepdims=True)) / deviation / 2, axis=-1)

    target, student = softened(MEMBERS.numpy()).mean(axis=1), softened(STUDENT.numpy())
    expected = 4 * (target * np.log(target / student)).sum(axis=1)
    found = losses.standardised_soft_targets(STUDENT, MEMBERS, temperature=2)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
