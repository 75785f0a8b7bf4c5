"""`kd doctor --fix`: what dead processes left is ended, and nothing else."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from flows import doctor
from flows.mend import mend
from kdmodels.temporary import temporary_folder
from kdmodels.versions import VERSIONS
from tasks import leftovers, steps, tracking
from tasks.references import Step

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
from kdmodels.temporary import temporary_folder

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
    """With temporary folders and a cache of its own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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
    assert check("unended runs")["detail"] == f"their process is gone: dead ({dead})"
    assert "4 of them, 0.4 MB, have no run to go on with" in str(check("checkpoints")["detail"])

    told = mend(dry_run=True)
    assert [line.split(",")[0] for line in told] == [
        f"would end dead ({dead})", *sorted(f"would delete {folder}" for folder in orphans)
    ]  # fmt: skip
    assert tracking.get(dead).status == "RUNNING"
    assert all(folder.exists() for folder in kept + orphans)

    assert len(mend()) == 5
    assert [tracking.get(run_id).status for run_id in (dead, living, done)] == ["KILLED", "RUNNING", "FINISHED"]
    assert [folder.exists() for folder in kept + orphans] == [True, True, True, False, False, False, False]
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


def using_folders() -> tuple[subprocess.Popen[str], list[Path]]:
    """A process in the middle of decoding, and its folders: the temporary one and the half-decoded one."""
    command = [sys.executable, "-c", FOLDERS]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, [Path(process.stdout.readline().strip()) for _ in range(2)]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def orphans(store: None) -> list[Path]:
    """The folders of a process that was killed."""
    process, folders = using_folders()
    kill(process)
    return folders


def told_of(orphans: list[Path], done: str) -> list[str]:
    temporary, half = orphans
    return [
        f"{done} {temporary}, 0.3 MB of temporary files: its process is gone",
        f"{done} {half}, 0.2 MB of half-decoded data: its process is gone",
    ]


def test_folders_of_a_killed_process_are_deleted_and_those_of_a_living_one_left_alone(
    orphans: list[Path], tmp_path: Path
) -> None:
    process, living = using_folders()
    with temporary_folder() as own:
        row = check("orphaned folders")
        assert (row["ok"], row["remedy"]) == (None, "kd doctor --fix deletes them")
        listed = f"{orphans[0]} (0.3 MB of temporary files), {orphans[1]} (0.2 MB of half-decoded data)"
        assert row["detail"] == f"their process is gone: {listed}"
        assert mend(dry_run=True) == told_of(orphans, "would delete")
        assert all(folder.exists() for folder in [*orphans, *living, own])

        assert mend() == told_of(orphans, "deleted")
        assert [folder.exists() for folder in [*orphans, *living, own]] == [False, False, True, True, True]
        assert mend() == []
        assert check("orphaned folders")["detail"] == "none"
    kill(process)
    assert len(mend()) == 2
    assert list((tmp_path / "tmp").iterdir()) == []  # nor is a lock left of any of them


def test_a_process_that_ends_leaves_neither_folder_nor_lock(store: None, tmp_path: Path) -> None:
    for word in ("pass", "raise KeyboardInterrupt", "raise SystemExit"):
        code = f"from kdmodels import temporary\nwith temporary.temporary_folder() as folder: print(folder); {word}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout.startswith(str(tmp_path / "tmp" / "kdflow-"))
        assert list((tmp_path / "tmp").iterdir()) == []


def test_what_is_not_known_to_be_an_orphan_stays(store: None, tmp_path: Path) -> None:
    """A folder of a user's own with a lock, what is only reached by a link, and a lock that is one."""
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


def test_a_link_in_an_orphan_goes_and_what_it_leads_to_stays(orphans: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(bytes(900_000))
    (orphans[0] / "link").symlink_to(tmp_path / "mine")
    (orphans[0] / "deep" / "link").symlink_to(tmp_path / "mine" / "file")
    assert mend() == told_of(orphans, "deleted")
    assert (tmp_path / "mine" / "file").stat().st_size == 900_000


def test_a_lock_that_a_killed_process_left_without_its_folder_goes_too(store: None, tmp_path: Path) -> None:
    (tmp_path / "tmp" / f"kdflow-{GONE}.lock").touch()
    assert mend(dry_run=True) == mend() == []
    assert list((tmp_path / "tmp").iterdir()) == []


def kd(*words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KD_", "PREFECT_"))}
    own = {"PREFECT_HOME": str(Path(os.environ["TMPDIR"]).with_name("prefect"))}
    return subprocess.run([str(KD), *words], env=kept | own, capture_output=True, text=True, timeout=180, check=False)


def test_the_command_tells_in_a_dry_run_and_then_does_it(dead: str, orphans: list[Path]) -> None:
    training = checkpoints("gone", None)
    dry, fixed, again = (kd("doctor", "--fix", *more, "--json") for more in (["--dry-run"], [], []))
    lines = dry.stderr.splitlines()
    assert lines == [
        f"would end dead ({dead}), whose process is gone",
        f"would delete {training}, 0.1 MB of checkpoints: their run is not in the store",
        *told_of(orphans, "would delete"),
    ]
    done = [line.replace("would delete", "deleted").replace("would end", "ended") for line in lines]
    assert fixed.stderr.splitlines() == done
    assert again.stderr.splitlines() == ["nothing to mend"]
    rows = [{row["name"]: row for row in json.loads(each.stdout)} for each in (dry, fixed)]
    for name in ("unended runs", "checkpoints", "orphaned folders"):
        assert [found[name]["ok"] for found in rows] == [None, True]
    assert [each.returncode for each in (dry, fixed, again)] == [0, 0, 0]
    assert tracking.get(dead).status == "KILLED"
    assert not any(folder.exists() for folder in [training, *orphans])


def test_the_command_tells_what_to_do_where_nothing_is_done_yet(orphans: list[Path]) -> None:
    for words in (["doctor"], ["doctor", "--dry-run"]):
        told = kd(*words)
        assert told.returncode == 0, told.stderr
        assert "kd doctor --fix" in told.stdout
        assert all(folder.exists() for folder in orphans)
