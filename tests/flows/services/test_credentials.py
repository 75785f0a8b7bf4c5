"""Generated passwords: one for all commands, readable by their owner only."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flows.services.credentials import read_or_create
from kdmodels.errors import UserError

CREATE = """
import sys
from pathlib import Path
from flows.services.credentials import read_or_create
sys.stdin.read(1)
print(read_or_create(Path(sys.argv[1])))
"""


def test_commands_that_start_at_the_same_time_use_one_password(tmp_path: Path) -> None:
    path = tmp_path / "home" / "password"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for process in started:  # processes that are still importing read the password that another created
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.close()
    passwords = set()
    for process in started:
        assert process.stdout is not None
        passwords.add(process.stdout.read().strip())
        process.stdout.close()
        assert process.wait() == 0
    assert passwords == {path.read_text()}
    assert len(path.read_text()) >= 43  # 256 bits
    assert [file.name for file in path.parent.iterdir()] == ["password"]


def test_only_the_owner_can_read_a_password(tmp_path: Path) -> None:
    path = tmp_path / "home" / "password"
    assert read_or_create(path) == read_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_or_create(tmp_path / "other") != read_or_create(path)


def test_a_password_that_other_users_may_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    read_or_create(path)
    path.chmod(0o640)
    with pytest.raises(UserError, match=rf"^{path}: other users may know .* with mode 640\. Delete it"):
        read_or_create(path)
