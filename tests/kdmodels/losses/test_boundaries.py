"""Activation boundaries and the overhaul of feature distillation: plain loops, and what they do not depend on."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdmodels import losses
from tests.kdmodels.losses.samples import drawn

LOSSES = [losses.activation_boundaries, losses.overhaul]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
STUDENT, TEACHER = [drawn(0, 3, 2, 4, 4), drawn(1, 3, 5, 2, 2)], [drawn(2, 3, 2, 4, 4), drawn(3, 3, 5, 2, 2)]
FACTORS = [0.5, 1.0]  # of the first and of the last map


def plain_boundaries(student: list[float], teacher: list[float]) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        if t > 0 and s < 2:
            total += (2 - s) ** 2
        elif t <= 0 and s > -2:
            total += (s + 2) ** 2
    return 3 / 1000 * total


def test_activation_boundaries_equal_a_plain_loop() -> None:
    values = losses.activation_boundaries(STUDENT, TEACHER, margin=2)
    for row, value in enumerate(values.tolist()):
        pairs = zip(FACTORS, STUDENT, TEACHER, strict=True)
        parts = [f * plain_boundaries(s[row].flatten().tolist(), t[row].flatten().tolist()) for f, s, t in pairs]
        assert value == pytest.approx(sum(parts))


def plain_overhaul(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for channel in range(student.shape[1]):
        ones, others = student[:, channel].flatten().tolist(), teacher[:, channel].flatten().tolist()
        negative = [t for t in others if t < 0]
        margin = sum(negative) / len(negative) if negative else 0.0
        for s, t in zip(ones, others, strict=True):
            if t > 0:
                total += (s - t) ** 2
            elif s > max(t, margin):
                total += (s - max(t, margin)) ** 2
    return total / len(student)


@pytest.mark.parametrize("rectified", [False, True])
def test_overhaul_equals_a_plain_loop(rectified: bool) -> None:
    teacher = [each.relu() for each in TEACHER] if rectified else TEACHER
    parts = [f * plain_overhaul(s, t) for f, s, t in zip(FACTORS, STUDENT, teacher, strict=True)]
    assert losses.overhaul(STUDENT, teacher).item() == pytest.approx(sum(parts))


def test_activation_boundaries_depend_on_the_signs_of_the_teacher_alone() -> None:
    value = losses.activation_boundaries(STUDENT, TEACHER)
    for changed in ([5 * each for each in TEACHER], [each.relu() for each in TEACHER]):
        assert torch.equal(losses.activation_boundaries(STUDENT, changed), value)
    assert losses.activation_boundaries([3 * each.sign() for each in TEACHER], TEACHER).abs().max() == 0


def test_overhaul_is_zero_for_equal_maps_and_free_of_the_order_of_the_examples() -> None:
    assert losses.overhaul(TEACHER, TEACHER) == 0
    reordered = losses.overhaul([each.flip(0) for each in STUDENT], [each.flip(0) for each in TEACHER])
    torch.testing.assert_close(reordered, losses.overhaul(STUDENT, TEACHER))


@every_loss
def test_no_gradient_reaches_the_teacher(loss: Callable[..., Tensor]) -> None:
    student, teacher = ([each.clone().requires_grad_() for each in maps] for maps in (STUDENT, TEACHER))
    loss(student, teacher).sum().backward()
    assert all(each.grad is None for each in teacher)
    for each in student:
        assert each.grad is not None
        assert each.grad.abs().sum() > 0


@every_loss
def test_maps_that_do_not_fit_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="expected one or more pairs of maps"):
        loss(STUDENT, TEACHER[:1])
    with pytest.raises(ValueError, match="differ in shape"):
        loss(STUDENT, TEACHER[::-1])
    with pytest.raises(ValueError, match=r"expected maps \(B, C, H, W\)"):
        loss([torch.zeros(2, 3)], [torch.zeros(2, 3)])
