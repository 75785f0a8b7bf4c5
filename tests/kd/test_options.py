"""Completions of the shell."""

import os
import subprocess
from pathlib import Path

import yaml

from kd.options import complete_experiment
from tests.conftest import SMALL
from tests.kd.conftest import KD


def complete(folder: Path, line: str) -> list[str]:
    """Return the shell's completions of a line."""
    variables = {"_KD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run([KD], cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=60)
    return done.stdout.split()


def test_the_shell_completes_experiments_and_variants(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    assert complete(tmp_path, "kd run m") == complete_experiment("m") == ["mnist", "mnist-classic", "mnist-losses"]
    assert complete(tmp_path, "kd run small.yaml --variants k") == ["kd"]
    assert complete(tmp_path, "kd run small.yaml --variants kd,h") == ["kd,hard-labels"]
    assert complete(tmp_path, "kd run nothing --variants k") == []
