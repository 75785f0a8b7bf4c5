"""Compiled steps: the same figures, or one line where there is no compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILED = """
import torch
from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.networks import build
from kdmodels.training import fit

split = Split(torch.arange(320.0).view(20, 1, 4, 4) / 320, torch.arange(20) % 3)
network = build(Network(mlp=[4]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
for compiled in (False, True):
    recipe = Recipe(epochs=2, batch=10, compile=compiled, optimizer={"sgd": {"lr": 0.1}})
    (replica,) = fit(network, [Term(loss="hard_labels")], recipe, split, split, seeds=[0])
    print(replica.figures["train/loss"], replica.figures["val/loss"])
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMPILED]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_computes_the_same() -> None:
    result = run()
    assert result.returncode == 0, result.stderr
    plain, compiled = ([float(figure) for figure in line.split()] for line in result.stdout.splitlines())
    assert compiled == pytest.approx(plain, rel=1e-5)


def test_without_a_compiler_compile_says_so(tmp_path: Path) -> None:
    result = run(CXX="/no/such/compiler", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))  # an empty cache: it is really asked
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("kdmodels.errors.UserError: compile: true: torch.compile failed (")
    assert last.endswith("; allowed here: false")
    assert "compiler" in last
