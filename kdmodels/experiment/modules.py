"""Search for the file of a Python module. No code is run."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Located:
    """Location of a module.

    Attributes:
        file: File of the module. `None` if the module does not exist or has no Python source code.
        folders: Folders that contain the module's submodules.
    """

    file: Path | None
    folders: list[str]


def locate(name: str, more: Sequence[str] = ()) -> Located:
    """Find a module in the same way as Python's import, without running the module or its packages.

    Args:
        name: Dotted name of the module.
        more: Folders that are searched after those of `sys.path`.
    """
    loaded = sys.modules.get(name)
    if loaded is not None and (getattr(loaded, "__file__", None) or hasattr(loaded, "__path__")):
        file = loaded.__file__
        return Located(Path(file) if file and file.endswith(".py") else None, list(getattr(loaded, "__path__", [])))
    parent, _, last = name.rpartition(".")
    namespace_folders = []
    for folder in locate(parent, more).folders if parent else [*sys.path, *more]:
        package, module = Path(folder, last), Path(folder, f"{last}.py")
        if (package / "__init__.py").is_file():
            return Located(package / "__init__.py", [str(package)])
        if module.is_file():
            return Located(module, [])
        if package.is_dir():
            namespace_folders.append(str(package))
    return Located(None, namespace_folders)  # a namespace package, or no module
