"""Log-probabilities of few classes and many examples, which are computed classes first."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from kdmodels.losses import decoupled, hard_labels, label_smoothing, reverse_soft_targets, soft_targets
from kdmodels.losses.numerics import FEW, MANY, log_softmax
from kdmodels.randomness import generator_for

LABELS = torch.arange(MANY) % 3
COMPARED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hard_labels": lambda student, teacher: hard_labels(student, LABELS[: len(student)]),
    "label_smoothing": lambda student, teacher: label_smoothing(student, LABELS[: len(student)]),
    "soft_targets": lambda student, teacher: soft_targets(student, teacher, temperature=2.0),
    "reverse_soft_targets": lambda student, teacher: reverse_soft_targets(student, teacher, temperature=2.0),
    "decoupled": lambda student, teacher: decoupled(student, teacher, LABELS[: len(student)]),
}


def logits(*shape: int, of: str) -> Tensor:
    return 5 * torch.randn(*shape, generator=generator_for(0, of))


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("classes", [3, 10, FEW - 1])
def test_many_examples_have_the_values_and_gradients_of_small_batches(name: str, classes: int) -> None:
    loss = COMPARED[name]
    student, teacher = (logits(MANY, classes, of=of) for of in ("student", "teacher"))
    student.requires_grad_()
    whole, few = loss(student, teacher)[:3], loss(student[:3], teacher[:3])
    torch.testing.assert_close(whole, few, rtol=1e-5, atol=1e-5)
    (gradient,), (expected,) = (torch.autograd.grad(values.sum(), student) for values in (whole, few))
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(MANY, 10), (MANY, FEW), (MANY - 1, 10), (2, 3, 10), (MANY, 3, 10)])
def test_log_probabilities_are_those_of_double_precision(shape: tuple[int, ...]) -> None:
    given = logits(*shape, of="given")
    torch.testing.assert_close(log_softmax(given).double(), given.double().log_softmax(dim=-1), rtol=1e-5, atol=1e-5)


def test_vmap_needs_no_loop() -> None:
    given = logits(2, MANY, 10, of="given")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of an operation that has no batching rule
        torch.testing.assert_close(vmap(log_softmax)(given), given.log_softmax(dim=-1), rtol=1e-5, atol=1e-5)
