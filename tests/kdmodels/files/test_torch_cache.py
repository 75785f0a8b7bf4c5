"""Compiled code is kept in a folder that only this user can write to, and torch uses no other folder."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kdmodels.errors import UserError
from kdmodels.files.torch_cache import VARIABLE, prepare_folder

COMPILER = shutil.which(os.environ.get("CXX", "g++"))
PROGRAM = """
import json, os, pathlib, sys
{first}
import torch
from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.networks import build
from kdmodels.training import fit
split = Split(torch.arange(320.0).view(20, 1, 4, 4) / 320, torch.arange(20) % 3)
network = build(Network(mlp=[4]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
torch.export.export(network, (torch.zeros(2, 1, 4, 4),))
opened = []
ASKED = ("open", "os.mkdir", "os.listdir")
sys.addaudithook(lambda event, about: opened.append(str(about[0])) if event in ASKED else None)
fit(network, [Term(loss="hard_labels")], Recipe(epochs=1, batch=10, compile=True), split, split, seeds=[0])
tmp = os.environ["TMPDIR"]
print(json.dumps([path for path in opened if path.startswith(tmp + "/torch")]))
"""


def run(folder: Path, first: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run a process that exports and compiles, with its cache and temporary directory in a folder."""
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    environment |= {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"),
        "OMP_NUM_THREADS": "1",
    } | more
    program = PROGRAM.format(first=first)
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.fault
@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("first", ["", "import torch, torch._inductor.codecache"], ids=["kdflow first", "torch first"])
def test_torch_leaves_no_code_in_the_temporary_directory(tmp_path: Path, first: str) -> None:
    """Neither compiled code nor precompiled headers, for which torch ignores its environment variable."""
    done = run(tmp_path, first)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    if not first:
        assert list((tmp_path / "tmp").iterdir()) == []
    folder = tmp_path / "cache" / "kdflow" / "compiled"
    assert list(folder.glob("precompiled_headers/*.gch"))
    assert list(folder.rglob("*.py"))
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


@pytest.mark.fault
@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler")
def test_a_folder_set_by_the_user_is_kept(tmp_path: Path) -> None:
    done = run(tmp_path, TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "elsewhere"))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "elsewhere").rglob("*.py"))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "kdflow").mkdir(mode=0o700)
    (tmp_path / "kdflow" / "compiled").mkdir()
    (tmp_path / "kdflow" / "compiled").chmod(0o777)
    with pytest.raises(UserError, match=r"^compile: true: .* can't hold compiled code: other users may write to "):
        prepare_folder()


def test_torch_still_uses_the_private_names() -> None:
    """If an upgrade renames them, precompiled headers would be in the temporary directory again."""
    from torch._inductor import codecache

    assert {"_HEADER_DIR", "_HEADER_LOCK_DIR"} <= vars(codecache).keys()
    assert {"_HEADER_DIR", "_HEADER_LOCK_DIR"} <= set(codecache._precompile_header.__wrapped__.__code__.co_names)
