"""Variational information distillation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdmodels import losses
from tests.kdmodels.losses.samples import drawn


def test_at_fixed_variance_it_is_a_scaled_mean_square_and_a_constant() -> None:
    module = losses.VariationalInformation((4, 8, 8), (6, 4, 4)).double()
    student, teacher = drawn(0, 3, 4, 8, 8), drawn(1, 3, 6, 4, 4)
    error = losses.hint(module.mean(F.avg_pool2d(student, 2)), teacher)  # sizes are matched first
    torch.testing.assert_close(module(student, teacher), error / 5 / 2 + math.log(5) / 2)  # the initial variance is 5


def test_the_variance_is_trained_per_channel_towards_the_mean_square_error() -> None:
    module = losses.VariationalInformation((4,), (6,)).double()
    student, teacher = drawn(0, 50, 4), 3 * drawn(1, 50, 6)
    error = (module.mean(student) - teacher).square().mean(dim=0).detach()  # (6,)
    (slope,) = torch.autograd.grad(module(student, teacher).mean(), module.raw_variance)
    assert torch.equal(slope > 0, error < 5)
    with torch.no_grad():
        module.raw_variance.copy_(torch.log(torch.expm1(error - 1e-5)))
    torch.testing.assert_close(module.variance, error)
    (slope,) = torch.autograd.grad(module(student, teacher).mean(), module.raw_variance)
    assert slope.abs().max() < 1e-12


def test_the_variance_is_reset_without_a_draw() -> None:
    module, generator = losses.VariationalInformation((4,), (6,)), torch.Generator()
    before = generator.get_state()
    nn.init.zeros_(module.raw_variance)
    module.reset(generator)
    assert module.variance.tolist() == pytest.approx([5.0] * 6, rel=1e-6)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("student", "teacher"), [((4,), (6, 2, 2)), ((4, 2, 2), (6,)), ((4, 2), (6, 2))])
def test_variational_information_refuses_unlike_kinds(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="can't be regressed"):
        losses.VariationalInformation(student, teacher)
