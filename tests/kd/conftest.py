"""Fixtures of the command line's tests: a folder in which `kd` has run twice, and an outcome to print."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.text import Text

from tasks.references import Outcome, StudentReference, TeacherReference, VerdictReference
from tests.conftest import SMALL, Here

KD = Path(sys.executable).with_name("kd")
Done = subprocess.CompletedProcess[str]
Kd = Callable[..., Done]
NewStudent = Callable[..., StudentReference]
Printed = Callable[..., list[str]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the experiment small.yaml and a store of its own."""
    folder = tmp_path_factory.mktemp("kd")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return folder


@pytest.fixture(scope="session")
def environment(prefect_server: str) -> dict[str, str]:
    """The environment variables for a `kd` process that uses the store of its folder."""
    removed = ("MLFLOW_", "KD_", "PREFECT_LOGGING", "FORCE_COLOR", "NO_COLOR", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(removed)}
    return kept | {"PREFECT_API_URL": prefect_server}


@pytest.fixture(scope="session")
def kd(folder: Path, environment: dict[str, str]) -> Kd:
    """Run `kd` as a process in the folder."""

    def kd(*words: str) -> Done:
        command = [str(KD), *words]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
        )

    return kd


@pytest.fixture(scope="session")
def first_run(kd: Kd) -> Done:
    """The first `kd run` in the folder."""
    return kd("run", "small.yaml")


@pytest.fixture(scope="session")
def second_run(kd: Kd, first_run: Done) -> Done:
    """The same `kd run` again, with its outcome in JSON."""
    return kd("run", "small.yaml", "--json", "--require-promotion")


@pytest.fixture
def here(
    folder: Path, environment: dict[str, str], second_run: Done, monkeypatch: pytest.MonkeyPatch, kd_here: Here
) -> Here:
    """`kd` in the process of the tests, in the folder after the two runs."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlruns/mlflow.db")
    for name in ("KD_DEBUG", "PYTHONWARNINGS", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"):
        monkeypatch.setenv(name, environment.get(name, ""))
    return kd_here


@pytest.fixture
def new_student() -> NewStudent:
    """Make a student of a leaderboard from its accuracies, one per seed, and other fields."""

    def new_student(variant: str, *accuracies: float, **fields: Any) -> StudentReference:
        defaults: dict[str, Any] = {
            "variant": variant,
            "run_id": f"run-{variant}",
            "status": "FINISHED",
            "reused": False,
            "seeds": list(range(len(accuracies))),
            "metrics": {},
            "per_seed": {"val/accuracy": list(accuracies)},
            "parameters": 1210,
        }
        student = StudentReference(**defaults | fields)
        mean = {"val/accuracy": sum(accuracies) / len(accuracies)} if accuracies else {}
        return student.model_copy(update={"metrics": mean | student.metrics})

    return new_student


@pytest.fixture
def outcome(new_student: NewStudent) -> Outcome:
    """The outcome of a run with one reused and one failed student, and a promoted winner."""
    teacher = {"val/accuracy": 0.985, "size/parameters": 50826, "cost/flops": 101632.0}
    return Outcome(
        experiment="small",
        parent_run_id="p",
        teacher=TeacherReference(run_id="t", reused=True, metrics=teacher),
        students=[
            new_student("hard-labels", 0.90, 0.92),
            new_student("kd", 0.94, 0.98, reused=True),
            new_student("broken", status="FAILED", parameters=None, error="it diverged"),
        ],
        notes=["the teacher has little to teach"],
        verdict=VerdictReference(
            promoted=True,
            already_champion=False,
            accepted=True,
            model="small-student",
            version=3,
            reason="kd replaces version 2.",
            winner="kd",
            evidence={},
            test_accuracy={"kd": 0.951, "hard-labels": 0.9},
        ),
        seconds={"total": 12.34, "start": 10.0, "data": 2.34},
    )


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Call a function that prints, and return the lines as a terminal with so many columns shows them."""

    def printed(columns: int, function: Callable[..., None], *arguments: object, **options: object) -> list[str]:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
        function(*arguments, **options)
        lines = Text.from_ansi(capsys.readouterr().out).plain.splitlines()
        assert max(map(len, lines)) <= columns
        return [line.rstrip() for line in lines]

    return printed
