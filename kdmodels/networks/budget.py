"""Search for the largest compact network within a budget."""

from bisect import bisect_right
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from kdmodels.errors import UserError
from kdmodels.evaluation.timing import latency
from kdmodels.experiment.network import WIDTH_STEP, Compact, Network
from kdmodels.networks.compact import Shape, stages
from kdmodels.randomness import isolated_rng

DEEPEST = 3  # maximum number of blocks per stage
WIDEST = 512  # maximum width
UNITS = {"parameters": "parameters", "flops": "FLOPs", "latency_ms": "ms"}


def within_budget(network: Network, *, input_shape: tuple[int, int, int], classes: int) -> Network:
    """Select the width and depth of the largest compact network within its budget.

    A budget limits parameters, FLOPs or latency. The search covers widths up to 512 and depths of 1 to 3 blocks per
    stage. Of the networks within a budget of parameters or FLOPs, the network that uses most of the budget is selected.
    Of the networks within a latency budget, the network with the most parameters is selected. If several networks tie,
    the deepest is selected.

    Args:
        network: Description of the network.
        input_shape: Shape of one image, (C, H, W).
        classes: Number of classes.

    Returns:
        Description with the selected width and depth. The values are recorded because a later search could select other
        values: latency varies between machines and between measurements. If the network is not compact, has no budget,
        or already has a width and a depth, its description is returned unchanged.

    Raises:
        UserError: No network is within the budget, or the width and depth in the experiment file exceed the budget.
    """
    compact = network.compact
    if compact is None or compact.budget is None:
        return network
    name, limit = compact.budget.limit
    cost = COSTS[name]
    if compact.width is not None and compact.depth is not None:
        shape = Shape(compact.block, compact.width, compact.depth, input_shape, classes)
        if cost(shape) > limit:
            raise UserError(
                f"network.compact: {_described(shape, cost(shape), name)}. Allowed by its budget: {limit:,}"
            )
        return network
    shape = _largest(compact.block, input_shape, classes, name, limit)
    sized = Compact(block=compact.block, budget=compact.budget, width=shape.width, depth=shape.depth)
    return Network(compact=sized)


def _largest(block: str, input_shape: tuple[int, int, int], classes: int, name: str, limit: float) -> Shape:
    cost, shallowest = COSTS[name], stages(input_shape)
    fitting: list[Shape] = []
    for depth in range(shallowest, DEEPEST * shallowest + 1):
        shapes = [
            Shape(block, width, depth, input_shape, classes) for width in range(WIDTH_STEP, WIDEST + 1, WIDTH_STEP)
        ]
        # Costs rise with the width. Search small widths first, because it takes less time to compute their costs.
        end = next((end for end in (2**i for i in range(1, 8)) if cost(shapes[end - 1]) > limit), len(shapes))
        number = bisect_right(shapes, limit, hi=end, key=cost)
        if number:
            fitting.append(shapes[number - 1])
    if not fitting:
        smallest = Shape(block, WIDTH_STEP, shallowest, input_shape, classes)
        raise UserError(
            f"network.compact.budget: no network fits into {limit:,} {UNITS[name]}. "
            f"The smallest: {_described(smallest, cost(smallest), name)}"
        )
    rank = Shape.parameters if name == "latency_ms" else cost
    return max(fitting, key=lambda shape: (rank(shape), shape.depth))


def _described(shape: Shape, cost: float, name: str) -> str:
    return f"{shape.block} of width {shape.width} and depth {shape.depth} has {cost:,.6g} {UNITS[name]}"


@cache
def latency_ms(shape: Shape) -> float:
    """Return the median time in ms of the forward pass of one image, with torch's current number of threads."""
    with isolated_rng():
        network = nn.Sequential(*shape.layers().values()).eval()
    images = torch.full((1, *shape.input_shape), 0.5)
    with torch.inference_mode():
        return latency(lambda: network(images))[0]


COSTS: dict[str, Callable[[Shape], float]] = {
    "parameters": cache(Shape.parameters),
    "flops": cache(Shape.flops),
    "latency_ms": latency_ms,
}
