"""The `kd` command without any store: mistakes, help, completion, the catalogue; each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.experiments import shipped
from kdmodels.report.losses import LEGEND, loss_rows

KD = Path(sys.executable).with_name("kd")
HEAVY = ("torch", "mlflow", "prefect", "pandas", "sklearn", "pydantic")
SMALL = """
name: small
data: digits
teacher: {network: {mlp: [32]}, epochs: 3}
student: {network: {mlp: [8]}, epochs: 2}
variants: [hard-labels, kd]
"""
Kd = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "wrong.yaml").write_text("name: wrong\ndata: digits\nteachr: {}\n")
    (tmp_path / "empty.yaml").write_text("")
    return tmp_path


@pytest.fixture
def kd(folder: Path) -> Kd:
    def kd(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KD, *words], cwd=folder, env=os.environ | more, capture_output=True, text=True, timeout=60, check=False
        )

    return kd


MISTAKES: list[tuple[list[str], int, str]] = [
    (["frob"], 2, "No such command 'frob'"),
    ([], 2, "Missing command"),
    (["run"], 2, f"which experiment? allowed: {', '.join(shipped())}, or a file"),
    (["run", "digit"], 2, f"did you mean 'digits'? allowed: {', '.join(shipped())}"),
    (["run", "."], 2, ".: is a folder, not an experiment file"),
    (["run", "digits", "--frehs"], 2, "No such option: --frehs"),
    (["run", "digits", "--variants", "kd+hnt"], 2, "--variants: 'kd+hnt' is not a variant of digits; did you mean"),
    (["run", "digits", "--set", "student.epoch=3"], 2, "did you mean 'epochs'?"),
    (["run", "digits", "--set", "student.epochs=many"], 2, "--set student.epochs"),
    (["run", "digits", "--set", "nothing"], 2, "allowed: key=value"),
    (["run", "digits", "--data-dir", "nowhere"], 2, "nowhere"),
    (["run", "wrong.yaml"], 2, "wrong.yaml:3: "),
    (["run", "empty.yaml"], 2, "empty.yaml: is empty"),
    (["init", "small.yaml"], 2, "small.yaml: exists already"),
    (["init", "no/such/folder.yaml"], 2, "no/such/folder.yaml: No such file or directory"),
    (["export", "x"], 2, "which format? allowed is one of: --pt2, --onnx, --int8"),
    (["export", "x", "--pt2", "--int8"], 2, "which format? allowed is one of: --pt2, --onnx, --int8"),
    (["schedule"], 2, "allowed is one of: an experiment or a file, --list, --delete NAME"),
    (["schedule", "small.yaml", "--every", "0"], 2, "--every"),
    (["compare", "--csv", "--json"], 2, "allowed is one of them"),
    (["predict", "small-student", "no.png"], 2, "no.png"),
    (["ui", "--port", "99999"], 2, "'--port'"),
]


@pytest.mark.parametrize(
    ("words", "code", "told"), MISTAKES, ids=lambda value: " ".join(value) if value and isinstance(value, list) else ""
)
def test_a_mistake_is_one_clear_line(kd: Kd, folder: Path, words: list[str], code: int, told: str) -> None:
    before = sorted(folder.iterdir())
    failed = kd(*words)
    assert failed.returncode == code
    assert failed.stdout == ""
    lines = failed.stderr.splitlines()
    assert told in failed.stderr
    assert all(line.startswith("kd: error: ") for line in lines), failed.stderr
    assert len(lines) == 1 or words == ["run", "wrong.yaml"]  # a file's mistakes are a line each
    assert sorted(folder.iterdir()) == before


def test_debug_shows_where_a_mistake_was_found(kd: Kd) -> None:
    for failed in (kd("--debug", "run", "digit"), kd("run", "digit", KD_DEBUG="1")):
        assert failed.returncode == 2
        assert "Traceback" in failed.stderr
        assert failed.stderr.splitlines()[-1].startswith("kd: error: digit: ")


def test_help_and_a_bad_experiment_import_nothing_heavy() -> None:
    script = (
        "import sys; from flows import cli; sys.argv = ['kd', *{words}]\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    for words, heavy in ((["--help"], HEAVY), (["run", "--help"], HEAVY[:-1]), (["run", "digit"], HEAVY[:-1])):
        command = [sys.executable, "-c", script.format(words=words, heavy=heavy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr.splitlines()[-1] == "[]", words


def complete(folder: Path, line: str) -> list[str]:
    words = line.split(" ")
    asked = {"_KD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([KD], cwd=folder, env=os.environ | asked, capture_output=True, text=True, timeout=60)
    return done.stdout.split()


def test_the_shell_completes_experiments_and_variants(folder: Path) -> None:
    assert complete(folder, "kd run m") == ["mnist", "mnist-losses"]
    assert complete(folder, "kd run small.yaml --variants k") == ["kd"]
    assert complete(folder, "kd run small.yaml --variants kd,h") == ["kd,hard-labels"]
    assert complete(folder, "kd run nothing --variants k") == []


def test_a_reader_that_has_enough_is_no_error(folder: Path) -> None:
    with subprocess.Popen(
        [KD, "variants", "--json"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""


def test_init_writes_a_file_that_can_be_run(kd: Kd, folder: Path) -> None:
    assert kd("init", "mine.yaml").returncode == 0
    assert "variants:" in (folder / "mine.yaml").read_text()
    assert kd("run", "mine.yaml", "--variants", "nothing").stderr.startswith("kd: error: --variants: 'nothing'")
    assert not (folder / "mine.yaml.partial").exists()


def test_variants_lists_the_catalogue(kd: Kd) -> None:
    named: dict[str, Any] = {row["name"]: row for row in json.loads(kd("variants", "--json").stdout)["variants"]}
    assert named["kd"]["terms"] == ["0.1 hard_labels", "0.9 soft_targets, temperature 4"]
    assert named["kd"]["paper"].startswith("Hinton")
    table = kd("variants").stdout
    assert all(name in table for name in named)
    assert all(row[key] in table for row in loss_rows() for key in row)
    assert "\n".join(LEGEND) in table
    one = kd("variants", "kd").stdout
    assert "T² KL(softmax(z_t / T) ‖ softmax(z_s / T))" in one
    assert "mean over classes" not in one
    assert "did you mean 'dkd'?" in kd("variants", "dk").stderr
