"""`kd doctor --fix` removes what dead processes left, and nothing else."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.services.doctor import check
from kdmodels.files.temporary import temporary_folder
from kdmodels.versions import VERSIONS
from tasks import tracking
from tasks.cleanup import leftovers
from tasks.cleanup.mend import mend
from tasks.execution import steps
from tasks.references import PlannedRun

CHILD = """
import os, signal, sys
from tasks import tracking
tracking.configure()
params = {"code.data": sys.argv[1], "torch": sys.argv[2]}
print(tracking.start("digits", "dead", "student", key="dead", params=params), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

FOLDERS = """
import os
from kdmodels.data.cache import cached
from kdmodels.files.temporary import temporary_folder

def produce(folder):
    (folder / "half").write_bytes(bytes(200_000))
    print(folder, flush=True)
    input()

with temporary_folder() as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_bytes(bytes(300_000))
    print(folder, flush=True)
    cached([os.getpid()], 1, produce)
"""
KD = Path(sys.executable).with_name("kd")

LINK, OTHER, GONE = "a" * 32, "b" * 32, "c" * 32
PARAMS = {"code.data": str(VERSIONS["data"]), "torch": version("torch")}


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure a store with its own temporary folders and cache."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()


@pytest.fixture
def dead(store: None) -> str:
    """Return the run of a process that was killed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *PARAMS.values()], stdout=subprocess.PIPE, text=True, check=False
    )
    return done.stdout.strip()


def checkpoints(key: str, run_id: str | None) -> Path:
    step = PlannedRun(name=key, kind="student", action="train", reason="", key=key, replicas="", params={}, seeds=[0])
    work = steps.StepWork(step, leftovers.folder_of(step))
    claim = work.claim()
    if run_id:
        tracking.set_tags(run_id, claim)
    (work.folder / "epoch-000001.safetensors").write_bytes(bytes(100_000))
    return work.folder


@pytest.mark.fault
def test_runs_of_dead_processes_and_orphaned_checkpoints_are_removed(dead: str) -> None:
    params = {"living": PARAMS, "young": {}, "done": PARAMS, "old": PARAMS | {"code.data": "0"},
              "older": {"code": "0123456789abcdef"}}  # fmt: skip
    living, young, done, old, older = (
        tracking.start("digits", name, "student", key=name, params=of_it) for name, of_it in params.items()
    )
    tracking.end(done, "FINISHED")
    kept = [checkpoints("dead", dead), checkpoints("living", living), checkpoints("young", young)]
    orphans = [
        checkpoints("done", done),
        checkpoints("gone", None),
        checkpoints("old", old),
        checkpoints("older", older),
    ]
    assert check("unended runs").detail == f"their process has ended: dead ({dead})"
    assert "4 of them, 0.4 MB, have no run to go on with" in check("checkpoints").detail

    lines = mend(dry_run=True)
    assert [line.split(",")[0] for line in lines] == [
        f"would end dead ({dead}): its process has ended", *sorted(f"would delete {folder}" for folder in orphans)
    ]  # fmt: skip
    assert tracking.get(dead).status == "RUNNING"
    assert all(folder.exists() for folder in kept + orphans)

    assert len(mend()) == 5
    assert [tracking.get(run_id).status for run_id in (dead, living, done)] == ["KILLED", "RUNNING", "FINISHED"]
    assert [folder.exists() for folder in kept + orphans] == [True, True, True, False, False, False, False]
    assert mend() == []
    assert check("unended runs").ok is True
    row = check("checkpoints")
    assert row.ok is True
    assert row.detail.startswith("3 trainings, 0.3 MB, in ")


@pytest.mark.fault
def test_an_ended_run_can_still_be_resumed(dead: str) -> None:
    checkpoints("dead", dead)
    mend()
    step = PlannedRun(
        name="dead", kind="student", action="train", reason="", key="dead", replicas="", params={}, seeds=[0]
    )
    run = leftovers.interrupted(step, "digits")
    assert run is not None
    assert run.run_id == dead


def using_folders() -> tuple[subprocess.Popen[str], list[Path]]:
    """Return a process that is decoding data, and its temporary and half-decoded folders."""
    command = [sys.executable, "-c", FOLDERS]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, [Path(process.stdout.readline().strip()) for _ in range(2)]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def orphans(store: None) -> list[Path]:
    """Return the folders of a process that was killed."""
    process, folders = using_folders()
    kill(process)
    return folders


def told_of(orphans: list[Path], done: str) -> list[str]:
    temporary, half = orphans
    return [
        f"{done} {temporary}, 0.3 MB of temporary files: its process has ended",
        f"{done} {half}, 0.2 MB of half-decoded data: its process has ended",
    ]


@pytest.mark.fault
def test_only_folders_of_a_killed_process_are_deleted(orphans: list[Path], tmp_path: Path) -> None:
    process, living = using_folders()
    with temporary_folder() as own:
        row = check("orphaned folders")
        assert (row.ok, row.remedy) == (None, "kd doctor --fix deletes them")
        listed = f"{orphans[0]} (0.3 MB of temporary files), {orphans[1]} (0.2 MB of half-decoded data)"
        assert row.detail == f"their process has ended: {listed}"
        assert mend(dry_run=True) == told_of(orphans, "would delete")
        assert all(folder.exists() for folder in [*orphans, *living, own])

        assert mend() == told_of(orphans, "deleted")
        assert [folder.exists() for folder in [*orphans, *living, own]] == [False, False, True, True, True]
        assert mend() == []
        assert check("orphaned folders").detail == "none"
    kill(process)
    assert len(mend()) == 2
    assert list((tmp_path / "tmp").iterdir()) == []  # nor is a lock left of any of them


def test_a_process_that_ends_leaves_neither_folder_nor_lock(store: None, tmp_path: Path) -> None:
    for word in ("pass", "raise KeyboardInterrupt", "raise SystemExit"):
        code = (
            f"from kdmodels.files import temporary\nwith temporary.temporary_folder() as folder: print(folder); {word}"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout.startswith(str(tmp_path / "tmp" / "kdflow-"))
        assert list((tmp_path / "tmp").iterdir()) == []


def test_other_folders_and_links_are_kept(store: None, tmp_path: Path) -> None:
    """A user's folder with a lock, a folder behind a link, and a lock that is a link."""
    (tmp_path / "tmp" / "kdflow-notes").mkdir()
    (tmp_path / "tmp" / "kdflow-notes.lock").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    (tmp_path / "tmp" / f"kdflow-{LINK}").symlink_to(tmp_path / "mine")
    (tmp_path / "tmp" / f"kdflow-{LINK}.lock").touch()
    (tmp_path / "tmp" / f"kdflow-{OTHER}").mkdir()
    (tmp_path / "tmp" / f"kdflow-{OTHER}.lock").symlink_to(tmp_path / "mine" / "file")
    before = sorted((tmp_path / "tmp").iterdir())
    assert mend() == []
    assert sorted((tmp_path / "tmp").iterdir()) == before
    assert (tmp_path / "mine" / "file").read_text() == "kept"


def test_a_link_in_an_orphan_is_deleted_but_not_its_target(orphans: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(bytes(900_000))
    (orphans[0] / "link").symlink_to(tmp_path / "mine")
    (orphans[0] / "deep" / "link").symlink_to(tmp_path / "mine" / "file")
    assert mend() == told_of(orphans, "deleted")
    assert (tmp_path / "mine" / "file").stat().st_size == 900_000


def test_a_lock_without_a_folder_is_deleted(store: None, tmp_path: Path) -> None:
    (tmp_path / "tmp" / f"kdflow-{GONE}.lock").touch()
    assert mend(dry_run=True) == mend() == []
    assert list((tmp_path / "tmp").iterdir()) == []


def kd(*words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KD_", "PREFECT_"))}
    own = {"PREFECT_HOME": str(Path(os.environ["TMPDIR"]).with_name("prefect"))}
    return subprocess.run([str(KD), *words], env=kept | own, capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.fault
def test_the_command_reports_in_a_dry_run_and_then_deletes(dead: str, orphans: list[Path]) -> None:
    training = checkpoints("gone", None)
    dry, fixed, again = (kd("doctor", "--fix", *more, "--json") for more in (["--dry-run"], [], []))
    lines = dry.stderr.splitlines()
    assert lines == [
        f"would end dead ({dead}): its process has ended",
        f"would delete {training}, 0.1 MB of checkpoints: their run is not in the store",
        *told_of(orphans, "would delete"),
    ]
    done = [line.replace("would delete", "deleted").replace("would end", "ended") for line in lines]
    assert fixed.stderr.splitlines() == done
    assert again.stderr.splitlines() == ["nothing to fix"]
    rows = [{row["name"]: row for row in json.loads(each.stdout)} for each in (dry, fixed)]
    for name in ("unended runs", "checkpoints", "orphaned folders"):
        assert [found[name]["ok"] for found in rows] == [None, True]
    assert [each.returncode for each in (dry, fixed, again)] == [0, 0, 0]
    assert tracking.get(dead).status == "KILLED"
    assert not any(folder.exists() for folder in [training, *orphans])


def test_the_report_without_fix_says_what_to_do(orphans: list[Path]) -> None:
    for words in (["doctor"], ["doctor", "--dry-run"]):
        report = kd(*words)
        assert report.returncode == 0, report.stderr
        assert "kd doctor --fix" in report.stdout
        assert all(folder.exists() for folder in orphans)
