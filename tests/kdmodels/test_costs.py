"""FLOPs and memory against sums done by hand, latency against a network that is its own clock."""

import pytest
import torch
from torch import Tensor, nn

import kdmodels.costs
from kdmodels.costs import FEWEST, MOST, costs, flops, latency, memory
from kdmodels.experiment import Network
from kdmodels.networks import build


def network(**layers: list[int]) -> nn.Sequential:
    return build(Network(**layers), input_shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.2]).eval()


def test_a_multiplication_and_its_addition_are_two_operations() -> None:
    assert flops(network(mlp=[32]), (1, 8, 8)) == 2 * (64 * 32 + 32 * 10)
    # 8x8 outputs of 9 weights to each of 4 channels, pooled to 4x4, 9 * 4 weights to each of 6 channels, a head.
    assert flops(network(conv=[4, 6]), (1, 8, 8)) == 2 * (64 * 9 * 4 + 16 * 36 * 6 + 6 * 10)


def test_a_grouped_convolution_costs_its_share() -> None:
    grouped = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert flops(grouped, (8, 4, 4)) == 2 * 16 * 9 * 8


@pytest.mark.parametrize("batch", [1, 64])
def test_memory_is_the_weights_and_the_most_that_is_alive_at_once(batch: int) -> None:
    weights = 64 * 8 + 8 + 8 * 10 + 10 + 2  # the mean and deviation too
    # At its peak: the images, the images less the mean, and these divided by the deviation.
    assert memory(network(mlp=[8]), (1, 8, 8), batch) == 4 * (weights + 3 * batch * 64)


class Branches(nn.Module):
    """Two outputs of 100 numbers that live at once, while what made them is gone."""

    def forward(self, images: Tensor) -> Tensor:
        wide = images.flatten(1).repeat(1, 100)  # 1600 numbers of 16
        left, right = wide[:, :100] * 1, wide[:, 100:200] * 1
        del wide
        return (left + right)[:, :10]


def test_memory_counts_a_view_once_and_forgets_what_is_gone() -> None:
    assert memory(Branches(), (1, 4, 4), 1) == 4 * (16 + 1600 + 200)


class InPlace(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images + 1).mul_(2).relu_().flatten(1)


def test_what_is_written_in_place_costs_nothing_more() -> None:
    assert memory(InPlace(), (1, 4, 4), 1) == 4 * 2 * 16


class Clock(nn.Module):
    """By itself a call takes 2 ms, and every tenth 30 ms."""

    calls, now = 0, 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.now += 0.03 if self.calls % 10 == 0 else 0.002
        return images.flatten(1)

    def perf_counter(self) -> float:
        return self.now


def test_the_median_is_of_the_usual_call_and_the_95th_percentile_of_the_slow_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(kdmodels.costs, "time", clock)
    assert latency(clock, (1, 4, 4), 1) == pytest.approx((2, 30))
    assert FEWEST < clock.calls < MOST


def test_all_figures_are_there_and_the_network_is_as_it_was() -> None:
    net = network(conv=[4])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    generator = torch.get_rng_state()
    figures = costs(net, (1, 8, 8))
    assert list(figures) == [
        "cost/flops",
        "cost/memory_mb",
        "latency/p50_ms",
        "latency/p95_ms",
        "cost/memory_mb_batch64",
        "latency/p50_ms_batch64",
        "latency/p95_ms_batch64",
    ]
    assert figures["cost/memory_mb"] == memory(net, (1, 8, 8), 1) / 1e6
    assert 0 < figures["latency/p50_ms"] <= figures["latency/p95_ms"]
    assert figures["latency/p50_ms"] < figures["latency/p50_ms_batch64"]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
