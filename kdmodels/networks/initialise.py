"""Initial weights as a function of a generator; torch's own layers draw from a global one."""

from collections.abc import Callable
from math import sqrt

from torch import Generator, nn

from kdmodels.networks.foreign import Foreign
from kdmodels.randomness import forked

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def initialise(network: nn.Module, generator: Generator) -> None:
    """Draw every parameter anew from torch's default distributions for its layer.

    A layer with a method `reset(generator)` draws its own; a network from elsewhere is as its constructor draws it,
    and keeps pretrained weights.

    Raises:
        TypeError: a layer with parameters is of a kind whose default distribution is not known here, and has no method
            `reset_parameters`.
        UserError: a network of pretrained weights was built without them.
    """
    _initialise(network, "", generator)


def _initialise(module: nn.Module, name: str, generator: Generator) -> None:
    if isinstance(module, Foreign):
        module.initialise(generator)
        return
    others = None
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, a=sqrt(5), generator=generator)
        if module.bias is not None:
            bound = 1 / sqrt(module.weight[0].numel())
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    elif isinstance(module, BATCH_NORMS):
        module.reset_parameters()  # ones and zeros: nothing is drawn
    elif (own := getattr(module, "reset", None)) is not None:  # a layer of ours that draws its own
        own(generator)
    elif next(module.parameters(recurse=False), None) is not None:
        others = _global_reset(module, name)
    for child, inner in module.named_children():
        _initialise(inner, f"{name}.{child}" if name else child, generator)
    if others is not None:  # after its parts: torch's attention mends what they drew
        with forked(generator):
            others()


def _global_reset(module: nn.Module, name: str) -> Callable[[], None]:
    """A layer's own way to draw its parameters from torch's global generator."""
    reset: Callable[[], None] | None = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    if reset is None:
        raise TypeError(f"{name}: no initialisation is known for {type(module).__name__}")
    return reset
