"""Batch norm of maps whose channels lie last, against torch's in float64."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from kdmodels.networks.batch_norm import BatchNorm2d, make_precise, moments
from kdmodels.randomness import stream

LAST = torch.channels_last


def precise(channels: int, **given: Any) -> BatchNorm2d:
    layer = nn.BatchNorm2d(channels, **given)
    make_precise(layer)
    assert isinstance(layer, BatchNorm2d)
    return layer


def trained(layer: nn.BatchNorm2d, maps: Tensor, pull: Tensor) -> dict[str, Tensor]:
    """What a step gives, and leaves in the layer."""
    layer, maps = deepcopy(layer).to(maps.dtype).train(), maps.detach().requires_grad_()
    out = layer(maps)
    of_maps, *of_layer = torch.autograd.grad(out, [maps, *layer.parameters()], pull.to(maps.dtype))
    found = {"out": out.detach(), "of maps": of_maps, **dict(layer.named_buffers())}
    return found | {f"of layer {place}": part for place, part in enumerate(of_layer)}


@given(
    batch=st.integers(1, 9), channels=st.integers(1, 20), height=st.integers(1, 40), width=st.integers(1, 40),
    shift=st.floats(-100, 100), seed=st.integers(0, 1000),
)  # fmt: skip
def test_a_step_is_that_of_float64(batch: int, channels: int, height: int, width: int, shift: float, seed: int) -> None:
    generator = stream(seed, "maps")
    assume(batch * height * width >= 16)  # of fewer, gradients cancel out
    maps = torch.randn(batch, channels, height, width, generator=generator) + shift
    pull = torch.randn(maps.shape, generator=generator)
    layer = precise(channels, momentum=0.3, eps=1e-3)
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            assert tensor is not None
            tensor.uniform_(0.5, 2, generator=generator)
    step = trained(layer, maps.to(memory_format=LAST), pull)
    for name, exact in trained(layer, maps.double(), pull).items():
        # Of sums over positions, in which most cancels out, the error is that of what is added up.
        size = batch * height * width if name.startswith("of layer") else exact.abs().max()
        assert (step[name].double() - exact).abs().max() < 3e-7 * (10 + abs(shift)) * size, name


def test_many_values_are_added_up_as_precisely_as_in_the_usual_layout() -> None:
    """One after the other they were off by 7e-6 of their size, a hundred times as much."""
    maps = torch.randn(64, 16, 32, 32, generator=stream(0, "maps")) + 1
    exact = torch.var_mean(maps.double(), dim=(0, 2, 3), correction=0)[::-1]
    for found, true in zip(moments(maps.to(memory_format=LAST)), exact, strict=True):
        assert ((found - true).abs() / true).max() < 5e-7
    pull = torch.randn(maps.shape, generator=stream(0, "pull")) + 1
    true = trained(nn.BatchNorm2d(16), maps.double(), pull)
    step = trained(precise(16), maps.to(memory_format=LAST), pull)
    for name in ("of layer 0", "of layer 1"):  # sums of values, most of which cancel out
        assert (step[name] - true[name]).abs().max() < 3e-7 * 64 * 32 * 32


@pytest.mark.parametrize("given", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}], ids=str)
def test_in_the_usual_layout_and_where_it_is_not_ours_it_is_torch_s(given: dict[str, Any]) -> None:
    maps, pull = (torch.randn(6, 4, 5, 5, generator=stream(0, word)) for word in ("maps", "pull"))
    for laid_out in (maps, maps.to(memory_format=LAST))[: 1 if given == {} else 2]:
        ours, torchs = (trained(layer, laid_out, pull) for layer in (precise(4, **given), nn.BatchNorm2d(4, **given)))
        assert ours.keys() == torchs.keys()
        assert all(torch.equal(ours[name], torchs[name]) for name in ours)


def test_in_eval_mode_it_is_torch_s() -> None:
    maps = torch.randn(6, 4, 5, 5, generator=stream(0, "maps")).to(memory_format=LAST)
    assert torch.equal(precise(4).eval()(maps), nn.BatchNorm2d(4).eval()(maps))


def test_parameters_and_names_stay_and_other_layers_too() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm1d(2)))
    before = dict(network.state_dict(keep_vars=True))
    make_precise(network)
    after = dict(network.state_dict(keep_vars=True))
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert [type(layer) for layer in network[2]] == [BatchNorm2d, nn.BatchNorm1d]


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    maps = torch.randn(6, 4, 5, 5, generator=stream(0, "maps")).to(memory_format=LAST).requires_grad_()
    (gradient,) = torch.autograd.grad(precise(4)(maps).square().sum(), maps, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
