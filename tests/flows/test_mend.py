"""`kd doctor --fix`: what dead processes left is ended, and nothing else."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from flows import doctor
from flows.mend import mend
from kdmodels.fingerprint import code_fingerprint
from tasks import leftovers, steps, tracking
from tasks.references import Step

CHILD = """
import os, signal, sys
from tasks import tracking
tracking.configure()
params = dict(code=sys.argv[1], torch=sys.argv[2])
print(tracking.start("digits", "dead", "student", key="dead", params=params), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

PARAMS = {"code": code_fingerprint(), "torch": version("torch")}


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()


@pytest.fixture
def dead(store: None) -> str:
    """The run of a process that was killed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *PARAMS.values()], stdout=subprocess.PIPE, text=True, check=False
    )
    return done.stdout.strip()


def checkpoints(key: str, run_id: str | None) -> Path:
    step = Step(name=key, kind="student", action="train", reason="", key=key, replicas="", params={}, seeds=[0])
    work = steps.Begun(step, leftovers.folder_of(step))
    claim = work.claim()
    if run_id:
        tracking.set_tags(run_id, claim)
    (work.folder / "epoch-000001.safetensors").write_bytes(bytes(100_000))
    return work.folder


def check(name: str) -> dict[str, object]:
    return doctor._checked(name, doctor.CHECKS[name])


def test_runs_and_checkpoints_that_nothing_goes_on_with_are_mended(dead: str) -> None:
    params = {"living": PARAMS, "young": {}, "done": PARAMS, "old": PARAMS | {"code": "0123456789abcdef"}}
    living, young, done, old = (
        tracking.start("digits", name, "student", key=name, params=of_it) for name, of_it in params.items()
    )
    tracking.end(done, "FINISHED")
    kept = [checkpoints("dead", dead), checkpoints("living", living), checkpoints("young", young)]
    orphans = [checkpoints("done", done), checkpoints("gone", None), checkpoints("old", old)]
    assert check("unended runs")["detail"] == f"their process is gone: dead ({dead})"
    assert "3 of them, 0.3 MB, have no run to go on with" in str(check("checkpoints")["detail"])

    told = mend(dry_run=True)
    assert [line.split(",")[0] for line in told] == [
        f"would end dead ({dead})", *sorted(f"would delete {folder}" for folder in orphans)
    ]  # fmt: skip
    assert tracking.get(dead).status == "RUNNING"
    assert all(folder.exists() for folder in kept + orphans)

    assert len(mend()) == 4
    assert [tracking.get(run_id).status for run_id in (dead, living, done)] == ["KILLED", "RUNNING", "FINISHED"]
    assert [folder.exists() for folder in kept + orphans] == [True, True, True, False, False, False]
    assert mend() == []
    assert check("unended runs")["ok"] is True
    row = check("checkpoints")
    assert row["ok"] is True
    assert str(row["detail"]).startswith("of 3 trainings, 0.3 MB, in ")


def test_a_run_that_was_ended_so_can_still_go_on(dead: str) -> None:
    checkpoints("dead", dead)
    mend()
    step = Step(name="dead", kind="student", action="train", reason="", key="dead", replicas="", params={}, seeds=[0])
    run = leftovers.interrupted(step, "digits")
    assert run is not None
    assert run.run_id == dead
