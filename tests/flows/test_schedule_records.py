"""What the process of a scheduled run may import from the schedule's folder."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from flows.schedule_records import ScheduleRecord, write_record

ENTER = """
import importlib.util, os, sys
from flows.schedule_records import enter_schedule
enter_schedule(sys.argv[1])
print(os.getcwd(), os.environ["KD_ALLOW_CODE"], importlib.util.find_spec("optional_speedups") is not None, sys.path[-1])
"""


@pytest.mark.parametrize("allow_code", [[], ["nets"]])
def test_without_allowed_code_no_module_is_found_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow_code: list[str]
) -> None:
    """Libraries try to import modules that are not installed, such as gmpy2 or pyspark."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "optional_speedups.py").touch()
    deployment = uuid4()
    write_record(deployment, ScheduleRecord(folder=str(folder), allow_code=allow_code))
    done = subprocess.run(
        [sys.executable, "-P", "-c", ENTER, str(deployment)], env=os.environ, capture_output=True, text=True
    )
    where, words, is_found, last = done.stdout.rstrip("\n").split(" ")
    assert (where, words, is_found) == (str(folder), ",".join(allow_code), str(bool(allow_code))), done.stderr
    assert (last == str(folder)) == bool(allow_code)  # last: no file in it takes the place of a library
