"""Which modules of a user's project a network is made of, against what Python itself imports."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdmodels.experiment.network import Network
from kdmodels.networks import sources
from kdmodels.networks.project import project_modules

NET = "from torch import nn\n\n\ndef net(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))\n"
PROJECT = {
    "kdtnets/__init__.py": "from .registry import *\n",
    "kdtnets/registry/__init__.py": "__all__ = ['first', 'second']\n__all__ += ['third']\n",
    "kdtnets/registry/first.py": "",
    "kdtnets/registry/second.py": "import kdtnets.parts.blocks.plain\n",
    "kdtnets/registry/third.py": "from ..parts import shapes as s\n",
    "kdtnets/registry/unused.py": "",
    "kdtnets/parts/__init__.py": "",
    "kdtnets/parts/shapes.py": "from . import cycle\nfrom .blocks import plain\n",
    "kdtnets/parts/cycle.py": "import kdtnets.parts.shapes\nimport os, sys\n",
    "kdtnets/parts/blocks/plain.py": "from kdtspace.inner import deep\n",  # blocks is a namespace package
    "kdtnets/parts/unused.py": "",
    "kdtnets/main.py": "import kdthelper\nimport numpy as np\nimport kdmodels.errors\n\n\n" + NET.replace(
        "    return", "    import kdtlazy\n\n    return"
    ),
    "kdthelper.py": "try:\n    import kdtmissing\nexcept ImportError:\n    pass\nimport kdtbroken_if_used\n",
    "kdtbroken_if_used.py": "if False:\n    import kdtsyntax\n",
    "kdtsyntax.py": "this is (not Python\n",
    "kdtlazy.py": "",
    "kdtunused.py": "",
    "library/kdtspace/inner/deep.py": "",  # in another folder of sys.path, below namespace packages
}  # fmt: skip
UNUSED = {"kdtnets.registry.unused", "kdtnets.parts.unused", "kdtunused"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield written(tmp_path / "project", monkeypatch)
    forget()


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str = "\n") -> Path:
    """The project in a folder, which is made the working folder; nothing of it has been imported."""
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, newline=ending)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "project" not in path] + [str(folder / "library")])
    monkeypatch.syspath_prepend(folder)
    forget()
    return folder


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("kdt")]:
        del sys.modules[name]


def imported(module: str, project: Path) -> dict[str, Path]:
    """What Python itself has imported of the project after the module's function ran, in a process of its own."""
    script = (
        f"import sys, {module} as m\nm.net(2)\n"
        "print(*(f'{n}={m.__file__}' for n, m in sys.modules.items() if n.startswith('kdt') and m.__file__), sep='\\n')"
    )
    environment = os.environ | {"PYTHONPATH": f"{project}:{project / 'library'}:{':'.join(filter(None, sys.path))}"}
    completed = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    return {name: Path(file) for name, _, file in (line.partition("=") for line in completed.stdout.splitlines())}


def test_the_modules_are_those_that_python_imports(project: Path) -> None:
    found = project_modules(["kdtnets.main"])
    assert not [name for name in sys.modules if name.startswith("kdt")]  # none of it ran
    loaded = imported("kdtnets.main", project)
    assert len(loaded) > 10
    assert found == loaded | {"kdtsyntax": project / "kdtsyntax.py"}  # in a branch that never runs
    assert not UNUSED & found.keys()
    for name in loaded:  # whatever has been imported by now
        sys.modules.pop(name, None)
    __import__("kdtnets.main")
    assert project_modules(["kdtnets.main"]) == found


def test_any_helper_that_changes_changes_what_the_network_is(project: Path) -> None:
    """Only the file of the class itself counted."""
    network = Network(module="kdtnets.main:net")
    before = sources(network)
    for name in ("kdthelper.py", "kdtlazy.py", "library/kdtspace/inner/deep.py", "kdtnets/__init__.py"):
        file = project / name
        text = file.read_text()
        file.write_text(text + "# changed\n")
        after = sources(network)
        (changed,) = [module for module in before if after[module] != before[module]]
        assert changed.split(".")[-1] == (file.parent.name if file.stem == "__init__" else file.stem)
        file.write_text(text)
    assert sources(network) == before
    for module in UNUSED:
        (project / f"{module.replace('.', '/')}.py").write_text("changed = True\n")
    assert sources(network) == before


def test_where_the_project_lies_and_how_its_lines_end_does_not_matter(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(module="kdtnets.main:net")
    before = sources(network)
    written(tmp_path / "elsewhere" / "project", monkeypatch, ending="\r\n")
    assert sources(network) == before
    assert len(before) > 10


def test_a_class_that_the_named_module_only_imports_counts_where_it_is_written(project: Path) -> None:
    (project / "kdtfront.py").write_text("from kdtwritten import Net\n")
    (project / "kdtwritten.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(48, classes))\n"
    )
    assert sources(Network(module="kdtfront:Net")).keys() == {"kdtfront", "kdtwritten"}


def test_an_installed_library_counts_by_its_version() -> None:
    found = sources(Network(module="timm.models:resnet18"))
    assert found.keys() == {"timm.models", "timm version"}
