"""What the process of a scheduled run may import from the schedule's folder."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from flows.services.schedule_records import (
    WORKER_CODE,
    WORKER_FOLDER,
    ScheduleRecord,
    delete_record,
    enter_schedule,
    read_record,
    records_folder,
    write_record,
)
from kdmodels.errors import UserError
from kdmodels.experiment.user_code import ALLOWED

ENTER = """
import importlib.util, os, sys
from flows.services.schedule_records import (
    read_record,
    enter_schedule,
    read_record,
)
enter_schedule(sys.argv[1])
print(os.getcwd(), os.environ["KD_ALLOW_CODE"], importlib.util.find_spec("optional_speedups") is not None, sys.path[-1])
"""
SPAWN = """
import multiprocessing, sys
from flows.services.schedule_records import (
    read_record,
    enter_schedule,
    read_record,
    records_folder,
)
from tasks.same_origin import own_origins
enter_schedule(sys.argv[1])
for target, arguments in ((own_origins, (4200,)), (records_folder, ())):
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        break
print(process.exitcode)
"""


@pytest.mark.parametrize("allow_code", [[], ["nets"]])
def test_modules_in_the_folder_are_found_only_if_code_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow_code: list[str]
) -> None:
    """Libraries try to import optional modules that are not installed, such as gmpy2 or pyspark."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "optional_speedups.py").touch()
    deployment = uuid4()
    write_record(deployment, ScheduleRecord(folder=str(folder), allow_code=allow_code))
    done = subprocess.run(
        [sys.executable, "-P", "-c", ENTER, str(deployment)], env=os.environ, capture_output=True, text=True
    )
    working_folder, allowed_code, is_found, last_entry = done.stdout.rstrip("\n").split(" ")
    expected = (str(folder), ",".join(allow_code), str(bool(allow_code)))
    assert (working_folder, allowed_code, is_found) == expected, done.stderr
    assert (last_entry == str(folder)) == bool(allow_code)  # last: no file in the folder shadows a library


@pytest.mark.parametrize("package", ["flows", "tasks", "kdmodels"])
def test_a_package_in_the_folder_does_not_shadow_kdflow_in_spawned_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """A spawned process imports kdflow anew, with the module search path of the process that spawned it."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    folder = tmp_path / "experiments"
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text("raise AssertionError('shadowed')")
    deployment = uuid4()
    write_record(deployment, ScheduleRecord(folder=str(folder), allow_code=["nets"]))
    command = [sys.executable, "-P", "-c", SPAWN, str(deployment)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


def test_a_deployment_without_a_record_allows_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", ENTER, str(uuid4())], env=os.environ, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.split(" ")[:3] == [str(tmp_path), "", "False"], done.stderr


def test_the_worker_names_the_folder_and_the_code_of_schedules_without_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "optional_speedups.py").touch()
    for name, value in {"PREFECT_HOME": str(tmp_path), WORKER_FOLDER: str(folder), WORKER_CODE: "nets, losses"}.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-P", "-c", ENTER, str(uuid4())]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == [str(folder), "nets,losses", "True", str(folder)], done.stderr


@pytest.mark.parametrize(
    ("folder", "code", "message"),
    [
        ("", "nets", "KD_WORKER_CODE: expected KD_WORKER_FOLDER too, "),
        ("/no/such/folder", "", "KD_WORKER_FOLDER: expected a folder on the worker's machine, got '/no/such/folder'"),
        (".", "", "KD_WORKER_FOLDER: expected an absolute path, got '.'"),
    ],
)
def test_a_mistake_in_the_variables_of_the_worker_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, code: str, message: str
) -> None:
    for name, value in {"PREFECT_HOME": str(tmp_path), WORKER_FOLDER: folder, WORKER_CODE: code}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        enter_schedule(str(uuid4()))
    assert str(error.value).startswith(message)


def test_a_deleted_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv(ALLOWED, "")  # `enter_schedule` sets the variable
    folder, deployment = tmp_path / "deleted", uuid4()
    write_record(deployment, ScheduleRecord(folder=str(folder), allow_code=[]))
    with pytest.raises(UserError, match=f"^{folder}: the runs of this schedule work in this folder, which can't be"):
        enter_schedule(str(deployment))


def test_a_record_tells_whether_the_experiment_file_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.chdir(tmp_path)
    file, deployment = Path("mine.yaml"), uuid4()
    file.write_text("name: mine")
    plain = ScheduleRecord(folder=str(tmp_path), allow_code=[])
    assert plain.of_file(None) == plain
    assert plain.file_changed() is None
    write_record(deployment, plain.of_file(file))
    record = read_record(deployment)
    assert record is not None
    monkeypatch.chdir("/")
    assert record.file == str(tmp_path / file)
    assert record.file_changed() is False
    (tmp_path / file).write_text("name: other")
    assert record.file_changed() is True
    (tmp_path / file).unlink()
    assert record.file_changed() is True


def test_a_record_is_deleted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    deployment = uuid4()
    write_record(deployment, ScheduleRecord(folder=str(tmp_path), allow_code=[]))
    assert [path.name for path in records_folder().iterdir()] == [f"{deployment}.json"]
    delete_record(deployment)
    delete_record(deployment)
    assert not list(records_folder().iterdir())
