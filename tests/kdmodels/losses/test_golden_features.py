"""The losses on maps equal their published references: value and gradient norm, in float64 and in float32.

`test_golden.py` does the same for the others. Which maps a value belongs to is what fitted it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdmodels import losses

TRUSTED = json.loads((Path(__file__).parents[2] / "golden_losses.json").read_text())["trusted"]
SHAPES = [(8, 6, 16, 16), (8, 12, 8, 8), (8, 24, 4, 4)]


def det(shape: tuple[int, ...], a: float, b: float) -> Tensor:
    """Return the file's deterministic inputs, as defined by its `about` entry."""
    t = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (torch.sin(a * t + b) + 0.5 * torch.cos(0.37 * a * t + 2 * b)).reshape(shape)


STUDENT = [det(shape, a, b) for shape, a, b in zip(SHAPES, (0.61, 0.73, 0.87), (0.1, 0.2, 0.3), strict=True)]
TEACHER = [det(shape, a, b) for shape, a, b in zip(SHAPES, (0.67, 0.79, 0.93), (0.5, 0.6, 0.7), strict=True)]

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def neuron_selectivity(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the sum of the values of the single maps."""
    return torch.stack([losses.neuron_selectivity(*pair) for pair in zip(student, teacher, strict=True)]).sum(dim=0)


OVERHAUL = "overhaul with the mean negative response of a channel as margin, summed over the 3 maps without relu"
CASES: dict[str, tuple[bool, Loss]] = {  # whether the maps are the rectified ones, and the loss
    "attention_transfer p=2, summed over the 3 maps": (True, losses.attention_transfer),
    "neuron_selectivity": (True, neuron_selectivity),
    "review pyramid (HCL)": (False, losses.review),
    "channel_correlation on the last maps without relu": (
        False,
        lambda student, teacher: losses.channel_correlation(student[-1], teacher[-1]),
    ),
    "activation_boundaries margin=1, summed over the 3 maps without relu": (False, losses.activation_boundaries),
    OVERHAUL: (False, losses.overhaul),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_equal_the_reference(name: str, dtype: torch.dtype, tolerance: float) -> None:
    rectified, loss = CASES[name]
    student = [(each.relu() if rectified else each).to(dtype, copy=True).requires_grad_() for each in STUDENT]
    value = loss(student, [(each.relu() if rectified else each).to(dtype) for each in TEACHER])
    assert value.shape == (() if name == OVERHAUL else (8,))
    value.mean().backward()
    gradient = torch.cat([each.grad.flatten() for each in student if each.grad is not None])
    assert value.mean().item() == pytest.approx(TRUSTED[name]["value"], rel=tolerance)
    assert gradient.norm().item() == pytest.approx(TRUSTED[name]["grad_l2"], rel=tolerance)
