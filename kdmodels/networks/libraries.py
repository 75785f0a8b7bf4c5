"""Models of torchvision and timm, and their pretrained weights, which are read from disk and never downloaded."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.network import Network

DEFAULT = "DEFAULT"
WEIGHTS = "model.safetensors"  # as timm's weights are called in the hub's cache
AUXILIARY = ("googlenet", "inception_v3")  # have further heads for training, which are left out


def torchvision_model(network: Network, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A classification model of torchvision, its weights random.

    Raises:
        UserError: there is none of that name, or the images have neither 1 nor 3 channels.
    """
    from torchvision import models

    name = _torchvision_name(network)
    if input_shape[0] not in (1, 3):
        raise UserError(f"network.torchvision: {name} takes 3 channels, or 1; these images have {input_shape[0]}")
    plain: dict[str, Any] = {"aux_logits": False, "init_weights": False, "transform_input": network.weights is not None}
    return models.get_model(name, weights=None, num_classes=classes, **plain if name in AUXILIARY else {})


def timm_model(network: Network, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A model of timm, its weights random.

    Raises:
        UserError: timm is not installed, or has no model of that name.
    """
    name = _timm_name(network)
    import timm

    return timm.create_model(name, num_classes=classes, in_chans=input_shape[0])


def load_weights(network: Network, model: nn.Module, channels: int) -> list[str]:
    """Fill the model with its pretrained weights; where the classes differ, its last layer stays as it is.

    Returns:
        The names of what stays, in the model's state.

    Raises:
        UserError: there are no such weights, or their file is not on this disk or not readable.
    """
    loaded = (_torchvision_state if network.kind == "torchvision" else _timm_state)(network, channels)
    own = model.state_dict()
    replaced = [name for name in own if name not in loaded or loaded[name].shape != own[name].shape]
    for name in own.keys() - set(replaced):
        own[name].copy_(loaded[name])
    return replaced


def weights_file(network: Network) -> Path:
    """Where the pretrained weights lie on this disk.

    Raises:
        UserError: there are no such weights, or they are not on this disk; the line says where from and where to.
    """
    return _torchvision_file(network) if network.kind == "torchvision" else _timm_file(network)


def replaced_head(network: Network, classes: int) -> str:
    """What becomes of the last layer of pretrained weights, in words; empty where nothing does."""
    if not network.weights:
        return ""
    if network.kind == "torchvision":
        from torchvision import models

        known = len(models.get_model_weights(_torchvision_name(network))[network.weights].meta["categories"])
    else:
        known = _timm_config(network).num_classes
    name = getattr(network, network.kind)
    return "" if known == classes else f"{name} knew {known} classes: its last layer is drawn anew for {classes}"


def _torchvision_name(network: Network) -> str:
    from torchvision import models

    name, names = str(network.torchvision), models.list_models(module=models)
    if name not in names:
        raise UsageError(f"network.torchvision: {name!r} is not one of its classification models; {_near(name, names)}")
    return name


def _torchvision_file(network: Network) -> Path:
    from torchvision import models

    choices = models.get_model_weights(_torchvision_name(network)).__members__
    if network.weights not in choices:
        raise UsageError(f"network.weights: {network.weights!r} is not known; {allowed(str(network.weights), choices)}")
    url = choices[network.weights].url
    return _on_disk(network, Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name), url)


def _torchvision_state(network: Network, channels: int) -> dict[str, Tensor]:
    from torchvision import models

    file = _torchvision_file(network)
    try:
        torch.load(file, map_location="cpu", weights_only=True)  # torchvision itself would run code that it holds
        return models.get_model(network.torchvision, weights=network.weights, progress=False).state_dict()
    except Exception as error:  # a damaged file fails in many ways
        raise _unreadable(file) from error


def _timm_name(network: Network) -> str:
    try:
        import timm
    except ImportError as error:
        raise UserError("network.timm: timm is not installed; pip install 'kdflow[timm]'") from error
    name = str(network.timm)
    if not timm.is_model(name) or "." in name:
        raise UsageError(f"network.timm: {name!r} is not one of its models; {_near(name, timm.list_models())}")
    return name


def _timm_file(network: Network) -> Path:
    name = _timm_name(network)
    import timm
    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache

    tags = [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{name}.*")]
    choices = [DEFAULT, *tags]
    if network.weights not in choices:
        raise UsageError(f"network.weights: {network.weights!r} is not known; {allowed(str(network.weights), choices)}")
    config = _timm_config(network)
    if config is None or config.hf_hub_id is None:
        raise UserError(f"network.weights: {network.weights!r} of {name} are not in a form that kdflow reads")
    cached = try_to_load_from_cache(config.hf_hub_id, WEIGHTS)
    folder = Path(constants.HF_HUB_CACHE, f"models--{config.hf_hub_id.replace('/', '--')}", "snapshots", "main")
    file = Path(cached) if isinstance(cached, str) else folder / WEIGHTS
    return _on_disk(network, file, hf_hub_url(config.hf_hub_id, WEIGHTS))


def _timm_state(network: Network, channels: int) -> dict[str, Tensor]:
    file = _timm_file(network)
    import timm

    try:
        model = timm.create_model(
            _tagged(network), pretrained=True, in_chans=channels, pretrained_cfg_overlay={"file": str(file)}
        )
        return model.state_dict()
    except Exception as error:  # a damaged file fails in many ways
        raise _unreadable(file) from error


def _timm_config(network: Network) -> Any:
    """What timm knows of the weights."""
    import timm

    return timm.models.get_pretrained_cfg(_tagged(network))


def _tagged(network: Network) -> str:
    return str(network.timm) if network.weights == DEFAULT else f"{network.timm}.{network.weights}"


def _on_disk(network: Network, file: Path, url: str) -> Path:
    if not file.is_file():
        name = getattr(network, network.kind)
        raise UserError(f"network.weights: {network.weights} of {name} are not on this disk and kdflow downloads no "
                        f"weights: {url} belongs at {file}")  # fmt: skip
    return file


def _unreadable(file: Path) -> UserError:
    return UserError(f"{file}: not readable as these pretrained weights without running code from it")


def _near(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, names, n=5, cutoff=0.4)
    return f"did you mean {', '.join(near)}?" if near else "see its documentation for their names"
