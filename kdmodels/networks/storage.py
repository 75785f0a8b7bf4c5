"""Storage of a network without pickle: a safetensors file with the weights, and a JSON file with the description."""

from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.experiment.user_code import require_named
from kdmodels.networks.build import build
from kdmodels.networks.checkpoint import load_checkpoint
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
    load_checkpoint(network, folder / WEIGHTS)
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
