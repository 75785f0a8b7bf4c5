"""The search finds the largest network inside a budget: checked against all others, each built and counted."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.experiment.architectures import BLOCKS
from kdmodels.networks import budget as search
from kdmodels.networks import build, parameters, within_budget
from kdmodels.networks.compact import Shape

IMAGES: dict[str, Any] = {"input_shape": (3, 32, 32), "classes": 10}


def compact(**fields: object) -> Network:
    return Network.model_validate({"compact": fields})


def built(network: Network, **images: Any) -> nn.Sequential:
    images = IMAGES | images
    channels = images["input_shape"][0]
    return build(network, **images, mean=[0.5] * channels, std=[0.2] * channels)


def found(network: Network, **images: Any) -> tuple[int, int]:
    sized = within_budget(network, **(IMAGES | images)).compact
    assert sized is not None
    assert sized.width is not None
    assert sized.depth is not None
    return sized.width, sized.depth


@settings(max_examples=20)
@given(
    block=st.sampled_from(list(BLOCKS)),
    budget=st.integers(3_000, 300_000),
    size=st.sampled_from([8, 28, 32, 64]),
    channels=st.sampled_from([1, 3]),
    classes=st.sampled_from([2, 10, 100]),
)
def test_no_neighbour_fits_better(block: str, budget: int, size: int, channels: int, classes: int) -> None:
    images = {"input_shape": (channels, size, size), "classes": classes}
    try:
        width, depth = found(compact(block=block, budget=budget), **images)
    except UserError:
        smallest = built(compact(block=block, width=4, depth={8: 2}.get(size, 4)), **images)
        assert parameters(smallest) > budget
        return
    cost = parameters(built(compact(block=block, width=width, depth=depth), **images))
    assert cost <= budget
    shallowest = {8: 2}.get(size, 4)
    for other in {(width + 4, depth), (width, depth + 1), (width, depth - 1), (width - 4, depth + 1)}:
        if other[0] >= 4 and shallowest <= other[1] <= 3 * shallowest:
            other_cost = parameters(built(compact(block=block, width=other[0], depth=other[1]), **images))
            assert other_cost > budget or (other_cost, other[1]) <= (cost, depth)


def test_it_is_the_largest_of_all() -> None:
    """Every width and depth that can be said, each built: only the budget keeps a larger one out."""
    budget = 9_000
    counts = {
        (width, depth): parameters(built(compact(block="depthwise", width=width, depth=depth)))
        for width in range(4, 41, 4)
        for depth in range(4, 13)
    }
    assert all(counts[40, depth] > budget for depth in range(4, 13))  # so all that fit are here
    best = max((size for size in counts if counts[size] <= budget), key=lambda size: (counts[size], size[1]))
    assert found(compact(block="depthwise", budget=budget)) == best


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("depth", [1, 3, 4, 7])
def test_parameters_are_counted_without_building(block: str, depth: int) -> None:
    for shape in ((1, 8, 8), (3, 32, 32), (3, 64, 64)):
        network = built(compact(block=block, width=12, depth=depth), input_shape=shape)
        assert Shape(block, 12, depth, shape, 10).parameters() == parameters(network)


def test_the_homeworks_budget() -> None:
    """60,000 parameters for 11 classes of 128x128 images."""
    network = within_budget(compact(block="depthwise", budget=60_000), input_shape=(3, 128, 128), classes=11)
    assert 55_000 < parameters(built(network, input_shape=(3, 128, 128), classes=11)) <= 60_000


def test_flops_count_a_multiply_add_as_two() -> None:
    shape = Shape("plain", 4, 1, (1, 8, 8), 10)
    stem, block, head = 9 * 1 * 4 * 64, 9 * 4 * 4 * 64, 4 * 10
    assert shape.flops() == 2 * (stem + block + head)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", [9, 32, 70])
def test_flops_are_counted_block_by_block(block: str, size: int) -> None:
    network = built(compact(block=block, width=8, depth=5), input_shape=(3, size, size)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    assert Shape(block, 8, 5, (3, size, size), 10).flops() == counter.get_total_flops()


def test_a_budget_of_flops() -> None:
    limit = 4_000_000
    width, depth = found(compact(block="group", budget={"flops": limit}))
    assert Shape("group", width, depth, **IMAGES).flops() <= limit
    assert Shape("group", width + 4, depth, **IMAGES).flops() > limit


def test_a_budget_of_latency_takes_the_most_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that can be foretold: a millisecond a block and eight channels."""
    monkeypatch.setitem(search.COSTS, "latency_ms", lambda shape: shape.depth * shape.width / 8)
    width, depth = found(compact(block="plain", budget={"latency_ms": 24}))
    sizes = [(w, d) for d in range(4, 13) for w in range(4, 100, 4) if w * d / 8 <= 24]
    assert (width, depth) == max(sizes, key=lambda size: Shape("plain", *size, **IMAGES).parameters())


def test_latency_is_measured_in_milliseconds() -> None:
    network = within_budget(compact(block="plain", budget={"latency_ms": 60_000}, width=4, depth=4), **IMAGES)
    assert network == compact(block="plain", budget={"latency_ms": 60_000}, width=4, depth=4)
    with pytest.raises(
        UserError, match=r"plain of width 4 and depth 4 has [\d.e-]+ ms\. Allowed by its budget: 1e-06$"
    ):
        within_budget(compact(block="plain", budget={"latency_ms": 1e-6}, width=4, depth=4), **IMAGES)


def test_the_error_for_an_exceeded_budget_names_cost_and_limit() -> None:
    network = compact(block="plain", budget=60_000, width=32, depth=8)
    with pytest.raises(UserError, match=r"^network.compact: plain of width 32 and depth 8 has 593,450 parameters\. "
                                        r"Allowed by its budget: 60,000$"):  # fmt: skip
        built(network)
    assert within_budget(compact(block="plain", budget=900_000, width=32, depth=8), **IMAGES).compact.width == 32  # type: ignore[union-attr]


def test_the_error_for_a_small_budget_names_the_smallest_network() -> None:
    smallest = parameters(built(compact(block="fire", width=4, depth=4)))
    line = (
        r"^network.compact.budget: no network fits into 100 parameters\. "
        rf"The smallest: fire of width 4 and depth 4 has {smallest:,} parameters$"
    )
    with pytest.raises(UserError, match=line):
        built(compact(block="fire", budget=100))


def test_what_has_no_budget_is_as_it_was() -> None:
    for network in (Network(mlp=[3]), compact(block="fire", width=8, depth=4)):
        assert within_budget(network, **IMAGES) == network


def test_the_search_draws_nothing_global() -> None:
    before = torch.get_rng_state()
    for budget in ({"parameters": 50_000}, {"flops": 3_000_000}):
        found(compact(block="ghost", budget=budget))
    search.latency_ms(Shape("plain", 4, 4, **IMAGES))
    assert torch.equal(before, torch.get_rng_state())
