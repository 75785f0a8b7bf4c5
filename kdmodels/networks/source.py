"""What determines a network beside its description and kdflow's own code."""

from hashlib import sha256
from importlib.metadata import version

from kdmodels.network import Network
from kdmodels.networks.libraries import weights_file
from kdmodels.networks.user_module import source_file


def source_digest(network: Network) -> str | None:
    """The digest of the user's source file, or of the library's version and the pretrained weights; None of our own.

    Of a user's package it is the one file that defines the class: what that file imports is not looked at.

    Raises:
        UserError: as `user_module` and `weights_file`.
    """
    if network.kind == "module":
        return sha256(source_file(network).read_bytes()).hexdigest()[:16]
    if network.kind not in ("torchvision", "timm"):
        return None
    content = sha256(version(network.kind).encode())
    if network.weights:
        content.update(weights_file(network).read_bytes())
    return content.hexdigest()[:16]
