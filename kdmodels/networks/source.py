"""What determines a network beside its description and kdflow's own code."""

from hashlib import sha256
from importlib.metadata import packages_distributions, version
from pathlib import Path

from kdmodels.network import Network
from kdmodels.networks.libraries import weights_file
from kdmodels.networks.project import project_modules
from kdmodels.networks.user_module import defining_modules, source_file


def sources(network: Network) -> dict[str, str]:
    """Return what the network's code and pretrained weights are: digests and versions by name; none for kdflow's own.

    For the user's own class or function these are the modules of their project that it is made of, as
    `project_modules` finds them. Where the project lies and how its lines end does not matter. For a class of an
    installed library it is its file and the library's version.

    Raises:
        UserError: as `source_file` and `weights_file`.
    """
    if network.kind == "module":
        file = source_file(network)
        own = project_modules(defining_modules(network))
        module = str(network.module).partition(":")[0]
        return {name: _digest(path) for name, path in own.items()} or {module: _digest(file)} | _installed(module)
    if network.kind not in ("torchvision", "timm"):
        return {}
    library = {f"{network.kind} version": version(network.kind)}
    return library | (
        {"weights": sha256(weights_file(network).read_bytes()).hexdigest()[:16]} if network.weights else {}
    )


def _digest(file: Path) -> str:
    return sha256(b"\n".join(file.read_bytes().splitlines())).hexdigest()[:16]


def _installed(module: str) -> dict[str, str]:
    """Return the versions of the distributions that a module is of, by their names."""
    return {
        f"{name} version": version(name) for name in set(packages_distributions().get(module.partition(".")[0], []))
    }
