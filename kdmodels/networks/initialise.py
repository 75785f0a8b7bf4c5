"""Initialisation of networks with weights from a given generator instead of torch's global generator."""

from collections.abc import Callable
from math import sqrt

from torch import Generator, nn

from kdmodels.randomness import isolated_rng

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def initialise(network: nn.Module, generator: Generator, *, fan_out: bool = False) -> None:
    """Draw the initial parameters of a network from a generator.

    If a layer has a method `reset(generator)`, this method draws the layer's parameters. If a module has a method
    `initialise(generator)`, this method draws the parameters of the module and of its children. Networks of a library
    or of the user have such a method: a second network is built with a seed from the generator, and its parameters are
    copied. Pretrained weights do not change. The parameters of torch's layers have torch's default distribution.

    Args:
        network: Network to change.
        generator: Generator of the random numbers.
        fan_out: Whether the weights of convolutions are normal with variance 2 / (output channels x kernel height x
            kernel width), and their biases 0. Methods of layers and modules ignore this argument.

    Raises:
        TypeError: A layer has parameters, but no known method that draws them.
        UserError: The description of the network has pretrained weights, but the network was built without them.

    References:
        He et al., "Delving deep into rectifiers", 2015 (fan_out).
    """
    _initialise(network, "", generator)
    if fan_out:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def _initialise(module: nn.Module, name: str, generator: Generator) -> None:
    if (draw_all := getattr(module, "initialise", None)) is not None:
        draw_all(generator)
        return
    global_reset = None
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, a=sqrt(5), generator=generator)
        if module.bias is not None:
            bound = 1 / sqrt(module.weight[0].numel())
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    elif isinstance(module, BATCH_NORMS):
        module.reset_parameters()  # sets constants and draws nothing
    elif (reset := getattr(module, "reset", None)) is not None:
        reset(generator)
    elif next(module.parameters(recurse=False), None) is not None:
        global_reset = _global_reset(module, name)
    for child, inner in module.named_children():
        _initialise(inner, f"{name}.{child}" if name else child, generator)
    if global_reset is not None:  # after the children, because torch's attention resets its children
        with isolated_rng(generator):
            global_reset()


def _global_reset(module: nn.Module, name: str) -> Callable[[], None]:
    """Return the method that draws the parameters of a layer from torch's global generator.

    The method is called `reset_parameters`, or `_reset_parameters` in `MultiheadAttention`.

    Args:
        module: Layer with parameters.
        name: Dotted name of the layer, for the error message.

    Raises:
        TypeError: The layer has no such method.
    """
    reset: Callable[[], None] | None = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    if reset is None:
        raise TypeError(f"{name}: the initialisation of {type(module).__name__} is unknown")
    return reset
