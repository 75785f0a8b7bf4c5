"""Networks that torchvision, timm or the user's code builds."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Generator, nn

from kdmodels.errors import UserError
from kdmodels.experiment.network import Network
from kdmodels.networks.layers import Normalise
from kdmodels.networks.libraries import library_model, load_weights
from kdmodels.networks.user_module import user_module
from kdmodels.randomness import isolated_rng

BUILDERS: dict[str, Callable[[Network, tuple[int, int, int], int], nn.Module]] = {
    "torchvision": library_model,
    "timm": library_model,
    "module": user_module,
}
SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 224, 256, 299, 384, 448, 512)


class ExternalNetwork(nn.Sequential):
    """Normalisation layer, followed by a network of a library or of the user.

    Args:
        normalise: Normalisation layer.
        build: Function that builds the network and draws its initial weights. The function may use torch's global
            generator.
        description: Description of the network in the experiment file.
    """

    def __init__(self, normalise: nn.Module, build: Callable[[], nn.Module], description: Network) -> None:
        super().__init__(OrderedDict(normalise=normalise, network=build()))
        self.build, self.description = build, description
        self.random_tensors: list[str] | None = None  # tensors without pretrained values; None before `load_weights`

    def load_weights(self, channels: int) -> None:
        """Load the pretrained weights. A later call of `initialise` does not change these weights.

        Args:
            channels: Number of channels of the images.

        Raises:
            UserError: The library has no weights of this name, or the weights are not on this disk or not readable.
        """
        self.random_tensors = load_weights(self.description, self.get_submodule("network"), channels)

    def initialise(self, generator: Generator) -> None:
        """Draw the initial weights from a generator.

        In a pretrained network, only the tensors without pretrained values are drawn, for example a new last layer.

        Raises:
            UserError: The description has pretrained weights, but the network was built without them.
        """
        if self.description.weights and self.random_tensors is None:
            raise UserError("network.weights: this network was built without its weights and can't be trained anew")
        with isolated_rng(generator):
            fresh = self.build().state_dict()
        state = self.get_submodule("network").state_dict()
        for name in state if self.random_tensors is None else self.random_tensors:
            state[name].copy_(fresh[name])


def build_external(
    network: Network,
    normalise: Callable[[int], Normalise],
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    pretrained: bool,
) -> ExternalNetwork:
    """Build the network of a library or of the user, and check the network on two blank images.

    Args:
        network: Description of the network.
        normalise: Function that returns the normalisation layer, given the number of copies that the layer makes of
            each channel. The number is 3 if a network of torchvision gets grey images, and 1 otherwise.
        input_shape: Shape of one image, (C, H, W).
        classes: Number of classes.
        pretrained: Whether to load the pretrained weights that `network.weights` names.

    Returns:
        The network in training mode.

    Raises:
        UserError: The network can't be built, or does not map images (N, C, H, W) to logits (N, classes).
    """
    repeats = 3 if network.kind == "torchvision" and input_shape[0] == 1 else 1  # grey images broadcast to 3 channels
    build = partial(BUILDERS[network.kind], network, input_shape, classes)
    whole = ExternalNetwork(normalise(repeats), build, network)
    label = f"network.{network.kind}: {getattr(network, network.kind)}"
    _require_separate_parameters(whole, label)
    try:
        with torch.no_grad():
            logits = whole.eval()(torch.zeros(2, *input_shape))
    except Exception as error:  # code of a library or of the user raises errors of any kind
        size = "x".join(map(str, input_shape))
        smallest = None if network.kind == "module" else _smallest_size(whole, input_shape[0])
        hint = f". The smallest images that the network takes are {smallest}x{smallest}" if smallest else ""
        line = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{label} fails on images of {size} ({type(error).__name__}: {line}){hint}") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
        kind = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        hint = ". network.arguments sets the arguments of the call" if network.kind == "module" else ""
        raise UserError(f"{label}: expected logits of shape {(2, classes)} for two images, got {kind}{hint}")
    if network.weights and pretrained:
        whole.load_weights(input_shape[0])
    return whole.train()


def _require_separate_parameters(network: nn.Module, label: str) -> None:
    """Raise UserError if two layers share parameters. A stored network has a separate tensor for each layer."""
    names = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    shared = sorted(names - {name for name, _ in network.named_parameters()})
    if shared:
        raise UserError(f"{label}: two layers share parameters: {', '.join(shared)}. Allowed: separate parameters")


def _smallest_size(whole: ExternalNetwork, channels: int) -> int | None:
    """Return the smallest side length of a square image that the network takes.

    The function runs the network on torch's meta device, which computes only shapes.

    Returns:
        The side length in pixels. `None` if the network takes none of the tested sizes, which are up to 512 x 512.
    """
    blank = deepcopy(whole).eval().to("meta")

    def takes(size: int) -> bool:
        try:
            blank(torch.zeros(2, channels, size, size, device="meta"))
        except Exception:  # code of a library or of the user raises errors of any kind
            return False
        return True

    first = next((i for i, size in enumerate(SIZES) if takes(size)), None)
    if first is None:
        return None
    low = SIZES[first - 1] + 1 if first else 1
    return low + bisect_left(range(low, SIZES[first]), True, key=takes)
