"""The simple recipe, against cases computed by hand."""

import math

import pytest
import torch
from torch import Tensor

from kdmodels import losses
from tests.kdmodels.losses.samples import drawn


def simple(weight: Tensor) -> losses.SimpleRecipe:
    module = losses.SimpleRecipe(weight.shape[1], len(weight)).double()
    module.projector.weight.data.copy_(weight)
    return module


def test_the_simple_recipe_equals_a_case_computed_by_hand() -> None:
    """With width 1, the student's ±2 and the teacher's ∓3 are each normalised to ±1, up to batch norm's 1e-4."""
    module = simple(torch.tensor([[2.0]]))
    student, teacher = torch.tensor([[0.0], [2.0]]).double(), torch.tensor([[7.0], [1.0]]).double()
    apart = 2 / math.sqrt(4 + 1e-4) + 3 / math.sqrt(9 + 1e-4)
    value = module(student, teacher)
    assert value.shape == ()
    assert value.item() == pytest.approx(math.log(2 * apart**4 + 1e-5), rel=1e-12)


def test_the_simple_recipe_has_its_minimum_at_equal_features() -> None:
    module, same = simple(torch.eye(4)), drawn(0, 5, 4).requires_grad_()
    value = module(same, same)
    value.backward()
    assert value.item() == pytest.approx(math.log(1e-5))
    assert same.grad is not None
    assert same.grad.abs().max() == 0.0


def test_shift_and_scale_of_the_teacher_do_not_matter_to_the_simple_recipe() -> None:
    module, student, teacher = simple(drawn(2, 6, 4)), drawn(0, 5, 4), drawn(1, 5, 6)
    expected = module(student, teacher)
    torch.testing.assert_close(module(student, teacher + 3), expected)
    torch.testing.assert_close(module(student, 10 * teacher), expected, rtol=1e-3, atol=1e-3)  # for batch norm's 1e-4


def test_doubling_the_batch_adds_log_2_to_the_simple_recipe() -> None:
    module, student, teacher = simple(drawn(2, 6, 4)), drawn(0, 5, 4), drawn(1, 5, 6)
    twice = module(student.repeat(2, 1), teacher.repeat(2, 1))
    assert (twice - module(student, teacher)).item() == pytest.approx(math.log(2), rel=1e-6)


def test_the_simple_recipe_cannot_train_on_one_example() -> None:
    module = losses.SimpleRecipe(4, 6)
    with pytest.raises(ValueError, match="batch of one"):
        module(torch.ones(1, 4), torch.ones(1, 6))
    assert module.eval()(torch.ones(1, 4), torch.ones(1, 6)).isfinite()
