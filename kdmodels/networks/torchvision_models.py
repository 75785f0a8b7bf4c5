"""Classification models of torchvision. `libraries` imports this module when a network of torchvision is built."""

from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision import models

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.experiment.network import Network
from kdmodels.networks.libraries import nearest_names, require_on_disk, unreadable_weights

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")  # models that are built without their extra heads for training


def create_model(network: Network, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return a model with random weights.

    Raises:
        UserError: Torchvision has no such model, or the images have neither 1 nor 3 channels.
    """
    name = _name(network)
    if input_shape[0] not in (1, 3):
        raise UserError(f"network.torchvision: {name} takes images of 1 or 3 channels, got {input_shape[0]}")
    options: dict[str, bool] = {}
    if name in WITH_AUXILIARY_HEADS:
        options = {"aux_logits": False, "init_weights": False, "transform_input": network.weights is not None}
    return models.get_model(name, weights=None, num_classes=classes, **options)


def weights_file(network: Network) -> Path:
    """Return the path of the pretrained weights in torch's cache.

    Raises:
        UserError: Torchvision has no weights of this name for the model, or the weights are not on this disk.
    """
    choices = models.get_model_weights(_name(network)).__members__
    if network.weights not in choices:
        weights = str(network.weights)
        raise UsageError(f"network.weights: unknown weights {weights!r}. {allowed(weights, choices)}")
    url = choices[network.weights].url
    return require_on_disk(network, Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name), url)


def pretrained_state(network: Network, channels: int) -> dict[str, Tensor]:
    """Return the state dict of the pretrained model.

    Args:
        network: Description of the network.
        channels: Not used. The parameter exists because `timm_models.pretrained_state` needs it.

    Raises:
        UserError: The file of the weights is not on this disk or can't be read.
    """
    file = weights_file(network)
    try:
        torch.load(file, map_location="cpu", weights_only=True)  # fails if the file has code; `get_model` would run it
        return models.get_model(network.torchvision, weights=network.weights, progress=False).state_dict()
    except Exception as error:  # a damaged file raises errors of many kinds
        raise unreadable_weights(file) from error


def pretrained_classes(network: Network) -> int:
    """Return the number of classes that the pretrained model was trained on."""
    return len(models.get_model_weights(_name(network))[network.weights].meta["categories"])


def _name(network: Network) -> str:
    name, names = str(network.torchvision), models.list_models(module=models)
    if name not in names:
        raise UsageError(f"network.torchvision: unknown classification model {name!r}. {nearest_names(name, names)}")
    return name
