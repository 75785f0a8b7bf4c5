"""Initial weights as a function of a generator; torch's own layers draw from a global one."""

from math import sqrt

from torch import Generator, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def initialise(network: nn.Module, generator: Generator) -> None:
    """Draw every parameter anew from torch's default distributions for its layer.

    A layer with a method `reset(generator)` draws its own.

    Raises:
        TypeError: a layer with parameters is of a kind whose default distribution is not known here.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=sqrt(5), generator=generator)
            if layer.bias is not None:
                bound = 1 / sqrt(layer.weight[0].numel())
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        elif isinstance(layer, BATCH_NORMS):
            layer.reset_parameters()  # ones and zeros: nothing is drawn
        elif hasattr(layer, "reset"):  # a layer of ours that draws its own
            layer.reset(generator)
        elif next(layer.parameters(recurse=False), None) is not None:
            raise TypeError(f"{name}: no initialisation is known for {type(layer).__name__}")
