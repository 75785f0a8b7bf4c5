"""Digests and versions of the code and the pretrained weights on which a network depends."""

from hashlib import sha256
from importlib.metadata import packages_distributions, version
from pathlib import Path

from torch import nn

from kdmodels.experiment.network import Network
from kdmodels.networks.libraries import weights_file
from kdmodels.networks.project import project_modules
from kdmodels.networks.user_module import FIELD
from kdmodels.user_imports import defining_modules, source_file


def sources(network: Network) -> dict[str, str]:
    """Return the digests and versions of a network's code and pretrained weights, by name.

    The result depends on the origin of the network:

    - For a network of kdflow, the result is empty.
    - For a network of torchvision or timm, the result holds the version of the library. If the network is pretrained,
      the result also holds the digest of the weights.
    - For a class or function of the user, the result holds the digests of the modules that `project_modules` finds.
    - For a class or function of another installed library, the result holds the digest of the file that defines the
      class or function, and the version of the library.

    Digests of code do not depend on the folder of the project or on line endings.

    Raises:
        UserError: See `source_file` and `weights_file`.
    """
    if network.kind == "module":
        return sources_of_code(FIELD, str(network.module))
    if network.kind not in ("torchvision", "timm"):
        return {}
    library = {f"{network.kind} version": version(network.kind)}
    return library | (
        {"weights": sha256(weights_file(network).read_bytes()).hexdigest()[:16]} if network.weights else {}
    )


def sources_of_code(field: str, code: str, base: type = nn.Module) -> dict[str, str]:
    """Return the digests and versions of the code of a class or function of the user, by name. See `sources`.

    Args:
        field: The field that names the class or function, for error messages.
        code: The module and the class or function, as `module:name`.
        base: The class of which a class must be a subclass.

    Raises:
        UserError: See `source_file`.
    """
    file = source_file(field, code, base)
    files = project_modules(defining_modules(field, code, base))
    module = code.partition(":")[0]
    return {name: _digest(path) for name, path in files.items()} or {module: _digest(file)} | _installed(module)


def _digest(file: Path) -> str:
    return sha256(b"\n".join(file.read_bytes().splitlines())).hexdigest()[:16]


def _installed(module: str) -> dict[str, str]:
    """Return the versions of the installed distributions that provide a module."""
    return {
        f"{name} version": version(name) for name in set(packages_distributions().get(module.partition(".")[0], []))
    }
