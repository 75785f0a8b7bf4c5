"""Compiled steps: the same figures, or one line where there is no compiler."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
import torch

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.networks import build
from kdmodels.training import Replica, fit

SPLIT = Split(torch.arange(320.0).view(20, 1, 4, 4) / 320, torch.arange(20) % 3)


def trained(*, compiled: bool) -> Replica:
    network = build(Network(mlp=[4]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    recipe = Recipe(epochs=2, batch=10, compile=compiled, optimizer={"sgd": {"lr": 0.1}})
    return fit(network, [Term(loss="hard_labels")], recipe, SPLIT, SPLIT, seeds=[0])[0]


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_computes_the_same() -> None:
    from torch._dynamo.utils import counters

    plain, before = trained(compiled=False), counters["stats"]["unique_graphs"]
    compiled = trained(compiled=True)
    assert counters["stats"]["unique_graphs"] == before + 1
    for one, other in zip(plain.history, compiled.history, strict=True):
        assert other == pytest.approx(one, rel=1e-5)


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("earlier", [None, "torchinductor_root", "elsewhere"])
def test_compiled_code_lies_in_the_users_own_cache(
    earlier: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a folder of the temporary directory whose name anybody can tell; where the user says otherwise, there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    if earlier == "elsewhere":
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / earlier))
    elif earlier:  # as torch sets it, once something has asked it for the folder
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "tmp" / earlier))
    else:
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    torch._dynamo.reset()
    trained(compiled=True)
    folder = tmp_path / "elsewhere" if earlier == "elsewhere" else tmp_path / "cache" / "kdflow" / "compiled"
    assert list(folder.rglob("*.py"))
    assert list((tmp_path / "tmp").iterdir()) == []
    if earlier != "elsewhere":
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_a_prepared_folder_of_compiled_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    (tmp_path / "kdflow").mkdir(mode=0o700)
    (tmp_path / "kdflow" / "compiled").mkdir()
    (tmp_path / "kdflow" / "compiled").chmod(0o777)
    with pytest.raises(UserError, match=r"^compile: true: .* can't hold compiled code: other users may write to "):
        trained(compiled=True)


def test_without_a_compiler_compile_says_so() -> None:
    from torch._inductor import config
    from torch._inductor.utils import fresh_cache

    with (
        fresh_cache(),  # an empty one: the compiler is really asked
        config.patch({"cpp.cxx": ("/no/such/compiler",)}),
        pytest.raises(UserError, match=r"^compile: true: torch\.compile failed \(.*compiler.*\); allowed here: false$"),
    ):
        trained(compiled=True)
