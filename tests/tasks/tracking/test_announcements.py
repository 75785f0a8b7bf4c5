"""Announcements that other processes read, and that end with the process that wrote them."""

import json
import os
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from kdmodels.files.folders import cache_folder
from tasks.tracking.announcements import announced, announcement


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_another_process_reads_an_announcement_while_the_block_runs() -> None:
    command = [sys.executable, "-c", "from tasks.tracking import announcements as a; print(a.announcement('server'))"]
    with announced("server", "http://127.0.0.1:1234"):
        read = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
        assert read.stdout == "http://127.0.0.1:1234\n"
        assert announcement("another") is None
    assert announcement("server") is None


def test_the_first_server_to_end_keeps_the_announcement_of_the_other() -> None:
    with ExitStack() as first:
        first.enter_context(announced("server", "http://127.0.0.1:1"))
        with announced("server", "http://127.0.0.1:2"):
            first.close()
            assert announcement("server") == "http://127.0.0.1:2"


def test_an_announcement_is_private() -> None:
    with announced("server", "secret"):
        (file,) = (cache_folder() / "servers").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_announcement_of_a_killed_process_is_ignored() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with announced("server", "text"):
        (file,) = (cache_folder() / "servers").iterdir()
        file.write_text(json.dumps({"pid": ended.pid, "text": "text"}))
        assert announcement("server") is None
