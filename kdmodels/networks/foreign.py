"""Networks that are built elsewhere: by torchvision, by timm, or by the user's own code."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Generator, nn

from kdmodels.errors import UserError
from kdmodels.network import Network
from kdmodels.networks.layers import Normalise
from kdmodels.networks.libraries import load_weights, timm_model, torchvision_model
from kdmodels.networks.user_module import user_module
from kdmodels.randomness import forked

MAKERS: dict[str, Callable[[Network, tuple[int, int, int], int], nn.Module]] = {
    "torchvision": torchvision_model,
    "timm": timm_model,
    "module": user_module,
}
SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 224, 256, 299, 384, 448, 512)


class Foreign(nn.Sequential):
    """The normalisation, then a `network` whose initial weights are those that its own constructor draws.

    Args:
        make: builds the network; it may draw from torch's global generator.
    """

    def __init__(self, normalise: nn.Module, make: Callable[[], nn.Module], description: Network) -> None:
        super().__init__(OrderedDict(normalise=normalise, network=make()))
        self.make, self.description = make, description
        self.drawn: list[str] | None = None

    def load_weights(self, channels: int) -> None:
        """Fill the network with its pretrained weights, which `initialise` then keeps.

        Raises:
            UserError: they are not on this disk.
        """
        self.drawn = load_weights(self.description, self.get_submodule("network"), channels)

    def initialise(self, generator: Generator) -> None:
        """Draw the weights anew as a function of the generator; of pretrained ones the last layer alone, if replaced.

        Raises:
            UserError: it was built without its pretrained weights.
        """
        if self.description.weights and self.drawn is None:
            raise UserError("network.weights: this network was built without them, and can't be trained anew")
        with forked(generator):
            fresh = self.make().state_dict()
        own = self.get_submodule("network").state_dict()
        for name in own if self.drawn is None else self.drawn:
            own[name].copy_(fresh[name])


def foreign(
    network: Network,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    mean: list[float],
    std: list[float],
    pretrained: bool,
) -> Foreign:
    """The network of a library or of the user's, tried on two blank images.

    Raises:
        UserError: it can't be had, or does not take (N, C, H, W) and give (N, classes).
    """
    repeated = 3 if network.kind == "torchvision" and input_shape[0] == 1 else 1  # one channel, broadcast to three
    normalise = Normalise(mean * repeated, std * repeated)
    whole = Foreign(normalise, partial(MAKERS[network.kind], network, input_shape, classes), network)
    label = f"network.{network.kind}: {getattr(network, network.kind)}"
    names = [name for name, _ in whole.named_parameters(remove_duplicate=False)]
    shared = sorted(set(names) - {name for name, _ in whole.named_parameters()})
    if shared:
        raise UserError(f"{label} has parameters that two layers share: {', '.join(shared)}; allowed: each its own")
    try:
        with torch.no_grad():
            logits = whole.eval()(torch.zeros(2, *input_shape))
    except Exception as error:  # whatever a stranger's code raises
        size = "x".join(map(str, input_shape))
        smallest = None if network.kind == "module" else _smallest_size(whole, input_shape[0])
        told = f"; the smallest that it takes are {smallest}x{smallest}" if smallest else ""
        line = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{label} fails on images of {size}{told} ({type(error).__name__}: {line})") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
        given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"{label} gives {given} for two images; allowed: a tensor of {(2, classes)}, a logit a class")
    if network.weights and pretrained:
        whole.load_weights(input_shape[0])
    return whole.train()


def _smallest_size(whole: Foreign, channels: int) -> int | None:
    """The least number of rows and columns that the network takes, found without computing; None where none is."""
    blank = deepcopy(whole).eval().to("meta")

    def takes(size: int) -> bool:
        try:
            blank(torch.zeros(2, channels, size, size, device="meta"))
        except Exception:  # as above
            return False
        return True

    first = next((i for i, size in enumerate(SIZES) if takes(size)), None)
    if first is None:
        return None
    low = SIZES[first - 1] + 1 if first else 1
    return low + bisect_left(range(low, SIZES[first]), True, key=takes)
