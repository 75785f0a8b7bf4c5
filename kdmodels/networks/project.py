"""Search for the modules of the user's project that a module imports. The search reads source code and runs no code."""

import ast
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path

from kdmodels.experiment.modules import locate

INSTALLED = {"site-packages", "dist-packages"}
KDFLOW = Path(__file__).parents[2]
KDFLOW_PACKAGES = ("kdmodels", "tasks", "flows")


def project_modules(names: Iterable[str]) -> dict[str, Path]:
    """Find the files of the named modules and of all modules that they import, directly or indirectly.

    Only the user's modules are included, not the modules of Python, installed libraries or kdflow. Importing a module
    runs the `__init__.py` of its packages, so these packages are included too. Imports inside functions count.

    The search misses dependencies that are not visible in the source code: modules that are imported by a computed name
    (`importlib`), extension modules, and data files that the code reads.

    Args:
        names: Dotted names of the modules.

    Returns:
        Files by module name, sorted by name.
    """
    files: dict[str, Path] = {}
    seen: set[str] = set()
    not_users = set(sys.stdlib_module_names)  # top-level modules
    queue = [part for name in names for part in _prefixes(name)]
    while queue:
        name = queue.pop(0)
        if name in seen or name.partition(".")[0] in not_users:
            continue
        seen.add(name)
        file = locate(name).file
        if file is not None and _is_users(file):
            files[name] = file
            queue += [part for imported in _imported(name, file) for part in _prefixes(imported)]
        elif file is not None and "." not in name:
            not_users.add(name)
    return dict(sorted(files.items()))


def _is_users(file: Path) -> bool:
    return not INSTALLED & set(file.parts) and not any(
        file.resolve().is_relative_to(folder) for folder in _other_folders()
    )


@cache
def _other_folders() -> list[Path]:
    """Return the folders that contain modules of Python, installed libraries or kdflow."""
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    installed += [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [folder.resolve() for folder in [*map(Path, installed), *(KDFLOW / name for name in KDFLOW_PACKAGES)]]


def _imported(name: str, file: Path) -> Iterator[str]:
    """Yield the names of the modules that a module may import.

    For `from a import b`, the function yields `a.b`, because `b` may be a module.
    """
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for base, level, imported in _imports(file.read_bytes()):
        above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
        if level and (not package or not above):
            continue  # Python would raise an error for this import
        whole = ".".join([*above, *filter(None, [base])])
        if imported == "*":
            init_file = locate(whole).file
            yield whole
            yield from (f"{whole}.{public}" for public in (_public(init_file.read_bytes()) if init_file else ()))
        else:
            yield f"{whole}.{imported}" if imported else whole


@lru_cache(1024)
def _imports(source: bytes) -> tuple[tuple[str, int, str], ...]:
    """Return the imports of a module.

    Returns:
        One tuple per import: the name of the module without leading dots, the number of leading dots, and the imported
        name. In a tuple for `import module`, the imported name is "".
    """
    imports: list[tuple[str, int, str]] = []
    for node in ast.walk(_parsed(source)):
        if isinstance(node, ast.Import):
            imports += [(alias.name, 0, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports += [(node.module or "", node.level, alias.name) for alias in node.names]
    return tuple(imports)


def _public(source: bytes) -> list[str]:
    """Return the names in `__all__`. If a name belongs to a submodule, `from package import *` imports it."""
    return [
        text.value
        for statement in _parsed(source).body
        if any(isinstance(node, ast.Name) and node.id == "__all__" for node in ast.walk(statement))
        for text in ast.walk(statement)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    ]


def _parsed(source: bytes) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):  # the module can't be run, so it has no imports
        return ast.Module([], [])


def _prefixes(name: str) -> list[str]:
    """Return the names of a module's packages, followed by the name of the module.

    >>> _prefixes("a.b.c")
    ['a', 'a.b', 'a.b.c']
    """
    return list(accumulate(name.split("."), "{}.{}".format))
