"""Models of timm. `libraries` imports this module when a network of timm is built."""

from pathlib import Path
from typing import Protocol

import timm
from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from torch import Tensor, nn

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.experiment.network import Network
from kdmodels.networks.libraries import nearest_names, require_on_disk, unreadable_weights

DEFAULT = "DEFAULT"
WEIGHTS = "model.safetensors"  # name of the weights file in a repository of timm on the Hugging Face hub


class WeightsConfig(Protocol):
    """Fields that this module reads from timm's configuration of pretrained weights.

    Attributes:
        num_classes: Number of classes of the pretrained model.
        hf_hub_id: Name of the model's repository on the Hugging Face hub. `None` if the hub has no such repository.
    """

    num_classes: int
    hf_hub_id: str | None


def create_model(network: Network, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return a model with random weights.

    Raises:
        UserError: Timm has no such model.
    """
    model: nn.Module = timm.create_model(_name(network), num_classes=classes, in_chans=input_shape[0])
    return model


def weights_file(network: Network) -> Path:
    """Return the path of the pretrained weights in the cache of the Hugging Face hub.

    Raises:
        UserError: Timm has no weights of this name for the model, the weights are not on the Hugging Face hub, or the
            weights are not on this disk.
    """
    name = _name(network)
    tags = [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{name}.*")]
    choices = [DEFAULT, *tags]
    if network.weights not in choices:
        weights = str(network.weights)
        raise UsageError(f"network.weights: unknown weights {weights!r}. {allowed(weights, choices)}")
    config = _config(network)
    if config is None or config.hf_hub_id is None:
        raise UserError(f"network.weights: {network.weights!r} of {name} are not in a form that kdflow reads")
    cached = try_to_load_from_cache(config.hf_hub_id, WEIGHTS)
    folder = Path(constants.HF_HUB_CACHE, f"models--{config.hf_hub_id.replace('/', '--')}", "snapshots", "main")
    file = Path(cached) if isinstance(cached, str) else folder / WEIGHTS
    return require_on_disk(network, file, hf_hub_url(config.hf_hub_id, WEIGHTS))


def pretrained_state(network: Network, channels: int) -> dict[str, Tensor]:
    """Return the state dict of the pretrained model.

    Args:
        network: Description of the network.
        channels: Number of channels of the images. Timm adapts the state dict to this number.

    Raises:
        UserError: The file of the weights is not on this disk or can't be read.
    """
    file = weights_file(network)
    try:
        model = timm.create_model(
            _tagged_name(network), pretrained=True, in_chans=channels, pretrained_cfg_overlay={"file": str(file)}
        )
        state: dict[str, Tensor] = model.state_dict()
    except Exception as error:  # a damaged file raises errors of many kinds
        raise unreadable_weights(file) from error
    return state


def pretrained_classes(network: Network) -> int:
    """Return the number of classes that the pretrained model was trained on."""
    config = _config(network)
    assert config is not None, "weights_file() has found the weights"
    return config.num_classes


def _name(network: Network) -> str:
    name = str(network.timm)
    if not timm.is_model(name) or "." in name:
        raise UsageError(f"network.timm: unknown model {name!r}. {nearest_names(name, timm.list_models())}")
    return name


def _config(network: Network) -> WeightsConfig | None:
    config: WeightsConfig | None = timm.models.get_pretrained_cfg(_tagged_name(network))
    return config


def _tagged_name(network: Network) -> str:
    return str(network.timm) if network.weights == DEFAULT else f"{network.timm}.{network.weights}"
