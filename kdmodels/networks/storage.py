"""A network on disk without pickle: safetensors beside a JSON description from which it is rebuilt."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdmodels.data.files import listed
from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks.build import build
from kdmodels.networks.foreign import Foreign
from kdmodels.own_code import require_named

WEIGHTS, DESCRIPTION = "network.safetensors", "network.json"


class Description(BaseModel):
    """What, beside its weights, a network is rebuilt from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Network
    input_shape: tuple[int, int, int]
    classes: list[str]
    mean: list[float]
    std: list[float]

    def build(self, *, pretrained: bool = True) -> nn.Sequential:
        """The network, to be trained; or with `pretrained` False, to be filled with stored weights."""
        return build(
            self.network,
            input_shape=self.input_shape,
            classes=len(self.classes),
            mean=self.mean,
            std=self.std,
            pretrained=pretrained,
        )


def save_network(folder: Path, description: Description, state: dict[str, Tensor]) -> None:
    """Write the two files into the folder, which must exist."""
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(description.model_dump_json(indent=1))


def load_network(folder: Path, code: Collection[str] = ()) -> tuple[nn.Sequential, Description]:
    """Rebuild the network of a folder that `save_network` wrote, in eval mode.

    Args:
        code: as `buildable_description`.

    Raises:
        UserError: as `buildable_description`; or the weights do not belong to the description.
    """
    description = buildable_description(folder, code)
    network = description.build(pretrained=False)
    fill(network, read_state(folder / WEIGHTS), folder / WEIGHTS)
    return network.eval(), description


def buildable_description(folder: Path, code: Collection[str]) -> Description:
    """Read a stored description that may be built: it runs no code but what the user named.

    Args:
        code: the modules that the user named in this command. Whoever writes the store can write a module into a
            description, so the store itself never says what may run.

    Raises:
        UserError: there is no description, it is damaged, or its network is of another module.
    """
    description = read_description(folder)
    if description.network.module:
        require_named("network.module", description.network.module.partition(":")[0], code)
    return description


def read_description(folder: Path) -> Description:
    """Read a stored description as data. To build it, use `buildable_description` or `load_network`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / DESCRIPTION
    if path.exists() and not path.is_file():  # a pipe or device never ends
        raise UserError(f"{path}: not a regular file")
    try:
        return Description.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; a stored network is {WEIGHTS} beside {DESCRIPTION}") from error
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not the description of a network") from error


def fill(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load the state into the network; its normalisation may be absent, then the network's own stays.

    The state of a network from elsewhere may be as its library or its user saved it, without kdflow's `network.`.

    Raises:
        UserError: keys are missing or unexpected, or shapes differ; the line names them.
    """
    own = network.state_dict()
    if isinstance(network, Foreign):
        inside = {f"network.{key}": tensor for key, tensor in state.items()}
        state = max(state, inside, key=lambda names: len(names.keys() & own.keys()))
    missing = [key for key in own if key not in state and not key.startswith("normalise.")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(faults.values()):
        told = "; ".join(f"{fault}: {listed(keys)}" for fault, keys in faults.items() if keys)
        raise UserError(f"{path}: these weights do not fit the network described: {told}")
    load_state(network, {**own, **state})


def load_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """`load_state_dict` for a plain dict, in which some layers of torchvision miss their version.

    Raises:
        ValueError: the keys are not those of the network.
    """
    own = network.state_dict()
    if own.keys() != state.keys():
        raise ValueError(f"not the state of this network: {', '.join(sorted(own.keys() ^ state.keys()))}")
    own.update(state)
    network.load_state_dict(own)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: safetensors, or a PyTorch file of tensors alone.

    A PyTorch file is read with `weights_only=True`: one that holds code is refused and nothing of it runs.

    Raises:
        UserError: the file is missing, damaged, holds code, or holds anything but named tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(
            f"{path}: not readable as a checkpoint without running code from it; "
            "allowed: .safetensors, or a state dict saved by torch.save"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds more than named tensors; save `network.state_dict()`")
    return {str(key).removeprefix("module."): value for key, value in content.items()}
