"""Batch norm of maps whose channels lie last, against torch's in float64."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from kdmodels.networks.batch_norm import BatchNorm2d, moments
from kdmodels.randomness import generator_for

LAST = torch.channels_last


def trained(layer: nn.BatchNorm2d, maps: Tensor, pull: Tensor) -> dict[str, Tensor]:
    """Return a step's outputs and gradients, and the layer's buffers after it."""
    layer, maps = deepcopy(layer).to(maps.dtype).train(), maps.detach().requires_grad_()
    out = layer(maps)
    of_maps, *of_layer = torch.autograd.grad(out, [maps, *layer.parameters()], pull.to(maps.dtype))
    found = {"out": out.detach(), "of maps": of_maps, **dict(layer.named_buffers())}
    return found | {f"of layer {place}": part for place, part in enumerate(of_layer)}


@given(
    batch=st.integers(1, 9), channels=st.integers(1, 20), height=st.integers(1, 40), width=st.integers(1, 40),
    shift=st.floats(-100, 100), seed=st.integers(0, 1000),
)  # fmt: skip
def test_a_step_equals_float64(batch: int, channels: int, height: int, width: int, shift: float, seed: int) -> None:
    generator = generator_for(seed, "maps")
    assume(batch * height * width >= 16)  # of fewer, gradients cancel out
    maps = torch.randn(batch, channels, height, width, generator=generator) + shift
    pull = torch.randn(maps.shape, generator=generator)
    layer = BatchNorm2d(channels, momentum=0.3, eps=1e-3)
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            assert tensor is not None
            tensor.uniform_(0.5, 2, generator=generator)
    step = trained(layer, maps.to(memory_format=LAST), pull)
    for name, exact in trained(layer, maps.double(), pull).items():
        # Of sums over positions, in which most cancels out, the error is that of what is added up.
        size = batch * height * width if name.startswith("of layer") else exact.abs().max()
        assert (step[name].double() - exact).abs().max() < 3e-7 * (10 + abs(shift)) * size, name


def test_sums_of_many_values_are_as_precise_as_in_the_usual_layout() -> None:
    """Adding up one value after the other has a relative error of 7e-6, a hundred times as much."""
    maps = torch.randn(64, 16, 32, 32, generator=generator_for(0, "maps")) + 1
    exact = torch.var_mean(maps.double(), dim=(0, 2, 3), correction=0)[::-1]
    for found, true in zip(moments(maps.to(memory_format=LAST)), exact, strict=True):
        assert ((found - true).abs() / true).max() < 5e-7
    pull = torch.randn(maps.shape, generator=generator_for(0, "pull")) + 1
    true = trained(nn.BatchNorm2d(16), maps.double(), pull)
    step = trained(BatchNorm2d(16), maps.to(memory_format=LAST), pull)
    for name in ("of layer 0", "of layer 1"):  # sums of values, most of which cancel out
        assert (step[name] - true[name]).abs().max() < 3e-7 * 64 * 32 * 32


@pytest.mark.parametrize("given", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}], ids=str)
def test_in_the_usual_layout_and_with_other_settings_it_equals_torchs_layer(given: dict[str, Any]) -> None:
    maps, pull = (torch.randn(6, 4, 5, 5, generator=generator_for(0, word)) for word in ("maps", "pull"))
    for laid_out in (maps, maps.to(memory_format=LAST))[: 1 if given == {} else 2]:
        ours, torchs = (
            trained(layer, laid_out, pull) for layer in (BatchNorm2d(4, **given), nn.BatchNorm2d(4, **given))
        )
        assert ours.keys() == torchs.keys()
        assert all(torch.equal(ours[name], torchs[name]) for name in ours)


def test_in_eval_mode_it_equals_torchs_layer() -> None:
    maps = torch.randn(6, 4, 5, 5, generator=generator_for(0, "maps")).to(memory_format=LAST)
    assert torch.equal(BatchNorm2d(4).eval()(maps), nn.BatchNorm2d(4).eval()(maps))


def test_it_has_the_parameters_and_buffers_of_torchs_layer() -> None:
    ours, torchs = BatchNorm2d(4).state_dict(), nn.BatchNorm2d(4).state_dict()
    assert ours.keys() == torchs.keys()
    assert all(torch.equal(ours[name], torchs[name]) for name in ours)


def test_a_second_derivative_is_refused() -> None:
    maps = torch.randn(6, 4, 5, 5, generator=generator_for(0, "maps")).to(memory_format=LAST).requires_grad_()
    (gradient,) = torch.autograd.grad(BatchNorm2d(4)(maps).square().sum(), maps, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
