"""Storage of a network without pickle: a safetensors file with the weights, and a JSON file with the description."""

from collections.abc import Collection
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdmodels.data.files import listed
from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.experiment.user_code import require_named
from kdmodels.networks.build import build
from kdmodels.networks.external import ExternalNetwork
from kdmodels.networks.layers import Resize

WEIGHTS, DESCRIPTION = "network.safetensors", "network.json"


class Description(BaseModel):
    """The description from which a network is rebuilt. The weights are stored separately.

    Attributes:
        network: Description of the network, as in an experiment file.
        input_shape: Shape of one image before resizing, (C, H, W).
        classes: Names of the classes.
        mean, std: Mean and standard deviation of each channel, for the normalisation of the images.
        size: Height and width to which the first layer resizes the images. `None` if the network does not resize
            images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Network
    input_shape: tuple[int, int, int]
    classes: list[str]
    mean: list[float]
    std: list[float]
    size: tuple[int, int] | None = None

    def build(self, *, pretrained: bool = True) -> nn.Sequential:
        """Build the network.

        Args:
            pretrained: Whether to load the pretrained weights that the description names. Pass False if stored weights
                are loaded afterwards.
        """
        network = build(
            self.network,
            input_shape=(self.input_shape[0], *(self.size or self.input_shape[1:])),
            classes=len(self.classes),
            mean=self.mean,
            std=self.std,
            pretrained=pretrained,
        )
        if self.size is not None:
            _prepend(network, "resize", Resize(self.size))
        return network


def _prepend(network: nn.Sequential, name: str, layer: nn.Module) -> None:
    """Add a layer before all layers of a network. The names of the other layers do not change."""
    layers = list(network.named_children())
    for child, _ in layers:
        delattr(network, child)
    for child, module in [(name, layer), *layers]:
        network.add_module(child, module)


def save_network(folder: Path, description: Description, state: dict[str, Tensor]) -> None:
    """Write the weights and the description of a network into an existing folder."""
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(description.model_dump_json(indent=1))


def load_network(folder: Path, code: Collection[str] = ()) -> tuple[nn.Sequential, Description]:
    """Rebuild the network that `save_network` wrote into a folder.

    Args:
        folder: Folder of the network.
        code: Names of the modules whose code is allowed to run. See `buildable_description`.

    Returns:
        The network in eval mode, and its description.

    Raises:
        UserError: The weights do not fit the description. For other errors, see `buildable_description`.
    """
    description = buildable_description(folder, code)
    network = description.build(pretrained=False)
    fill(network, read_state(folder / WEIGHTS), folder / WEIGHTS)
    return network.eval(), description


def buildable_description(folder: Path, code: Collection[str]) -> Description:
    """Read a stored description, and check that building the network runs only code that the user allows.

    A description can name a module of the user, whose code runs when the network is built. Anyone who can write to the
    store can change this name. Therefore, the user must name the module in the current command too.

    Args:
        folder: Folder of the network.
        code: Names of the modules that the user named in this command.

    Raises:
        UserError: The description is missing or damaged, or names a module that the user did not name.
    """
    description = read_description(folder)
    if description.network.module:
        require_named("network.module", description.network.module.partition(":")[0], code)
    return description


def read_description(folder: Path) -> Description:
    """Read a stored description without running code. To build the network, call `buildable_description` instead.

    Raises:
        UserError: The description is missing or damaged.
    """
    path = folder / DESCRIPTION
    if path.exists() and not path.is_file():  # reading a pipe or device may never end
        raise UserError(f"{path}: not a regular file")
    try:
        return Description.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: this file does not exist. A stored network consists of {WEIGHTS} and {DESCRIPTION}"
        ) from error
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not the description of a network") from error


def fill(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict into a network. The state dict may come from kdflow, a library or the user.

    A state dict of a library or the user may lack the prefix `network.` that kdflow adds to the keys. If the state dict
    has no tensors for the normalisation layer, this layer does not change.

    Args:
        network: Network to change.
        state: Tensors of the state to load, by key.
        path: Path of the state's file, for the error message.

    Raises:
        UserError: Keys are missing or unexpected, or shapes differ. The message names the keys.
    """
    current = network.state_dict()
    if isinstance(network, ExternalNetwork):
        inside = {f"network.{key}": tensor for key, tensor in state.items()}
        state = max(state, inside, key=lambda names: len(names.keys() & current.keys()))
    missing = [key for key in current if key not in state and not key.startswith("normalise.")]
    unexpected = [key for key in state if key not in current]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(current[key].shape)}"
        for key in current
        if key in state and state[key].shape != current[key].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(faults.values()):
        problems = "; ".join(f"{fault}: {listed(keys)}" for fault, keys in faults.items() if keys)
        raise UserError(f"{path}: the weights do not fit the described network: {problems}")
    load_state(network, {**current, **state})


def load_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a plain dict of tensors into a network.

    For some layers of torchvision, `load_state_dict` needs version metadata that a plain dict lacks. The function takes
    the metadata from the network's own state dict.

    Raises:
        ValueError: The keys differ from the keys of the network's state dict.
    """
    current = network.state_dict()
    if current.keys() != state.keys():
        raise ValueError(f"not the state of this network: {', '.join(sorted(current.keys() ^ state.keys()))}")
    current.update(state)
    network.load_state_dict(current)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, which is a safetensors file or a PyTorch file of tensors.

    No code in the file runs, because a PyTorch file is read with `weights_only=True`.

    Returns:
        Tensors by key, without the prefix `module.` that `DataParallel` adds to keys. If the file stores the tensors in
        a dict `state_dict`, everything outside this dict is left out.

    Raises:
        UserError: The file is missing or damaged, or contains anything other than named tensors, for example code.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    content: object
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises errors of many kinds
        raise UserError(
            f"{path}: not readable as a checkpoint without running code from it. "
            "Allowed: .safetensors, or a state dict saved by torch.save"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds more than named tensors. Allowed: what `network.state_dict()` returns")
    return {str(key).removeprefix("module."): value for key, value in content.items()}
