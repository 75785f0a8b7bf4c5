"""The modules of the user's project that a module imports, found in their source; none of it runs."""

import ast
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}
KDFLOW = Path(__file__).parents[2]
KDFLOW_PACKAGES = ("kdmodels", "tasks", "flows")


def project_modules(names: Iterable[str]) -> dict[str, Path]:
    """Return the files of these modules and of all that they import, by module name.

    Only modules of the user's own are followed: not Python's, not installed ones, and not kdflow's. The package of a
    module counts too, since importing the module runs the package's `__init__.py`. An import inside a function counts.

    What the source does not say stays unseen: modules imported by a computed name (`importlib`), data files that the
    code reads, and extension modules.

    Args:
        names: dotted names, as they are imported.
    """
    files: dict[str, Path] = {}
    seen: set[str] = set()
    foreign = set(sys.stdlib_module_names)  # top-level modules that are not the user's
    todo = [part for name in names for part in _prefixes(name)]
    while todo:
        name = todo.pop(0)
        if name in seen or name.partition(".")[0] in foreign:
            continue
        seen.add(name)
        file = _locate(name).file
        if file is not None and _is_users(file):
            files[name] = file
            todo += [part for found in _imported(name, file) for part in _prefixes(found)]
        elif file is not None and "." not in name:
            foreign.add(name)
    return dict(sorted(files.items()))


@dataclass(frozen=True)
class _Located:
    """Where a module lies: its file, if it is one of Python source, and the folders of its submodules."""

    file: Path | None
    folders: list[str]


def _locate(name: str) -> _Located:
    """Find a module as Python would, without running it or the packages above it."""
    loaded = sys.modules.get(name)
    if loaded is not None and (getattr(loaded, "__file__", None) or hasattr(loaded, "__path__")):
        file = loaded.__file__
        return _Located(Path(file) if file and file.endswith(".py") else None, list(getattr(loaded, "__path__", [])))
    parent, _, last = name.rpartition(".")
    portions = []
    for folder in _locate(parent).folders if parent else sys.path:
        package, module = Path(folder, last), Path(folder, f"{last}.py")
        if (package / "__init__.py").is_file():
            return _Located(package / "__init__.py", [str(package)])
        if module.is_file():
            return _Located(module, [])
        if package.is_dir():
            portions.append(str(package))
    return _Located(None, portions)  # a namespace package, or nothing


def _is_users(file: Path) -> bool:
    return not INSTALLED & set(file.parts) and not any(file.resolve().is_relative_to(folder) for folder in _others())


@cache
def _others() -> list[Path]:
    """Return the folders of Python's own, installed, and kdflow's modules."""
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    installed += [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [folder.resolve() for folder in [*map(Path, installed), *(KDFLOW / name for name in KDFLOW_PACKAGES)]]


def _imported(name: str, file: Path) -> Iterator[str]:
    """Name what a module may import: of `from a import b` both `a` and `a.b`, since `b` may be a module."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for base, level, found in _imports(file.read_bytes()):
        above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
        if level and (not package or not above):
            continue  # an import that fails
        whole = ".".join([*above, *filter(None, [base])])
        if found == "*":
            start = _locate(whole).file
            yield whole
            yield from (f"{whole}.{public}" for public in (_public(start.read_bytes()) if start else ()))
        else:
            yield f"{whole}.{found}" if found else whole


@lru_cache(1024)
def _imports(source: bytes) -> tuple[tuple[str, int, str], ...]:
    """Return each import as the module that it names, its leading dots, and the name taken from the module, if any."""
    found: list[tuple[str, int, str]] = []
    for node in ast.walk(_parsed(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", node.level, alias.name) for alias in node.names]
    return tuple(found)


def _public(source: bytes) -> list[str]:
    """Return the names in `__all__`, among which `from package import *` also finds modules."""
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
    except (SyntaxError, ValueError):  # of a module that only some other branch of the code would import
        return ast.Module([], [])


def _prefixes(name: str) -> list[str]:
    """Return the packages of a module and the module.

    >>> _prefixes("a.b.c")
    ['a', 'a.b', 'a.b.c']
    """
    return list(accumulate(name.split("."), "{}.{}".format))
