"""The largest compact network inside a budget."""

from bisect import bisect_right
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from kdmodels.errors import UserError
from kdmodels.network import WIDTH_STEP, Compact, Network
from kdmodels.networks.compact import Shape, stages
from kdmodels.randomness import forked
from kdmodels.timing import latency

DEEPEST = 3  # blocks a stage
WIDEST = 512
WORDS = {"parameters": "parameters", "flops": "FLOPs", "latency_ms": "ms"}


def within_budget(network: Network, *, input_shape: tuple[int, int, int], classes: int) -> Network:
    """The network with its width and depth settled; one that is not compact, or has no budget, is as it was.

    Of the widths up to 512 and the depths from one to three blocks a stage, the one that comes nearest to its budget
    is taken, and of equals the deepest. Of a latency budget it is the one of the most parameters, and as latency is
    measured, the answer is that of this machine and moment: the network that is returned holds it.

    Raises:
        UserError: none fits, or the width and depth that were given do not.
    """
    compact = network.compact
    if compact is None or compact.budget is None:
        return network
    name, limit = compact.budget.limit
    cost = COSTS[name]
    if compact.width is not None and compact.depth is not None:
        shape = Shape(compact.block, compact.width, compact.depth, input_shape, classes)
        if cost(shape) > limit:
            raise UserError(f"network.compact: {_told(shape, cost(shape), name)}; allowed by its budget: {limit:,}")
        return network
    shape = _largest(compact.block, input_shape, classes, name, limit)
    sized = Compact(block=compact.block, budget=compact.budget, width=shape.width, depth=shape.depth)
    return Network(compact=sized)


def _largest(block: str, input_shape: tuple[int, int, int], classes: int, name: str, limit: float) -> Shape:
    cost, least = COSTS[name], stages(input_shape)
    fitting: list[Shape] = []
    for depth in range(least, DEEPEST * least + 1):
        of_width = [
            Shape(block, width, depth, input_shape, classes) for width in range(WIDTH_STEP, WIDEST + 1, WIDTH_STEP)
        ]
        # Costs rise with the width: look near the small end first, where they are cheap to tell.
        end = next((end for end in (2**i for i in range(1, 8)) if cost(of_width[end - 1]) > limit), len(of_width))
        number = bisect_right(of_width, limit, hi=end, key=cost)
        if number:
            fitting.append(of_width[number - 1])
    if not fitting:
        smallest = Shape(block, WIDTH_STEP, least, input_shape, classes)
        raise UserError(
            f"network.compact.budget: {limit:,} {WORDS[name]}: none fits; {_told(smallest, cost(smallest), name)}"
        )
    rank = Shape.parameters if name == "latency_ms" else cost
    return max(fitting, key=lambda shape: (rank(shape), shape.depth))


def _told(shape: Shape, cost: float, name: str) -> str:
    return f"{shape.block} of width {shape.width} and depth {shape.depth} has {cost:,.6g} {WORDS[name]}"


@cache
def latency_ms(shape: Shape) -> float:
    """Median milliseconds of one image's forward pass in torch's eager mode, at its present number of threads."""
    with forked():
        network = nn.Sequential(*shape.layers().values()).eval()
    images = torch.full((1, *shape.input_shape), 0.5)
    with torch.inference_mode():
        return latency(lambda: network(images))[0]


COSTS: dict[str, Callable[[Shape], float]] = {
    "parameters": cache(Shape.parameters),
    "flops": cache(Shape.flops),
    "latency_ms": latency_ms,
}
