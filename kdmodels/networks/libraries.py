"""Models of torchvision and timm. Pretrained weights are read from disk and never downloaded.

The code for each library is in a separate module, `torchvision_models` or `timm_models`. The library's module is
imported only when a network of the library is built, because the import takes seconds and timm is optional.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType

from torch import nn

from kdmodels.errors import UserError
from kdmodels.experiment.network import Network

LIBRARIES = ("torchvision", "timm")


def library_model(network: Network, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return a model of torchvision or timm with random weights.

    Raises:
        UserError: The library is not installed or has no such model, or torchvision gets images whose number of
            channels is neither 1 nor 3.
    """
    model: nn.Module = _library(network).create_model(network, input_shape, classes)
    return model


def load_weights(network: Network, model: nn.Module, channels: int) -> list[str]:
    """Load pretrained weights into a model, except tensors whose shapes differ.

    For example, the last layer is not loaded if it was trained on another number of classes.

    Args:
        network: Description of the network, which names the weights.
        model: Model to change.
        channels: Number of channels of the images.

    Returns:
        Names of the tensors in the model's state that were not loaded.

    Raises:
        UserError: The library has no weights of this name, or the weights are not on this disk or not readable.
    """
    loaded = _library(network).pretrained_state(network, channels)
    state = model.state_dict()
    kept = [name for name in state if name not in loaded or loaded[name].shape != state[name].shape]
    for name in state.keys() - set(kept):
        state[name].copy_(loaded[name])
    return kept


def weights_file(network: Network) -> Path:
    """Return the path of the pretrained weights on this disk.

    Raises:
        UserError: The library has no weights of this name, or the weights are not on this disk. If they are not on this
            disk, the message says from which URL and to which path to download them.
    """
    file: Path = _library(network).weights_file(network)
    return file


def replaced_head(network: Network, classes: int) -> str:
    """Return a note for the user if the last layer of a pretrained network is replaced.

    If the last layer is kept or the network has no pretrained weights, the note is an empty string.
    """
    if not network.weights:
        return ""
    count = _library(network).pretrained_classes(network)
    name = getattr(network, network.kind)
    return "" if count == classes else f"{name} was trained on {count} classes: its last layer is new, for {classes}"


def require_on_disk(network: Network, file: Path, url: str) -> Path:
    """Check that the file of pretrained weights exists, and return its path.

    Args:
        network: Description of the network, for the error message.
        file: Path of the weights.
        url: URL of the weights, for the error message.

    Raises:
        UserError: The file does not exist.
    """
    if not file.is_file():
        name = getattr(network, network.kind)
        raise UserError(
            f"network.weights: {network.weights} of {name} are not on this disk, and kdflow downloads no weights. "
            f"Download {url} to {file}"
        )
    return file


def unreadable_weights(file: Path) -> UserError:
    """Return the error to raise if pretrained weights can't be read without running code from their file."""
    return UserError(f"{file}: not readable as these pretrained weights without running code from it")


def nearest_names(name: str, names: Iterable[str]) -> str:
    """Return a sentence that suggests models with similar names, for an error message about an unknown name.

    If no name is similar, the sentence refers to the library's documentation.
    """
    nearest = get_close_matches(name, names, n=5, cutoff=0.4)
    return f"Did you mean {', '.join(nearest)}?" if nearest else "Allowed: the names in the library's documentation"


def _library(network: Network) -> ModuleType:
    try:
        return import_module(f"kdmodels.networks.{network.kind}_models")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise UserError("network.timm: timm is not installed. Run: pip install 'kdflow[timm]'") from error
