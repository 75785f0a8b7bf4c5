"""The output of services reaches rotating log files."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flows.services.logs import LARGEST_FILE, LAST_LINES, OLD_FILES, last_lines, log_file, log_folder, service_logs

PRINT = "import sys; print('from stdout', flush=True); print('http://ann:secret@ml.example', file=sys.stderr)"
PRINT_MANY = "import sys; line = 'x' * 999; [print(line) for _ in range(int(sys.argv[1]))]"


def start(code: str, *arguments: str, log: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=log, stderr=log)


@pytest.mark.parametrize("echo", [True, False])
def test_output_is_in_the_log_file_without_secrets(
    no_server: Path, echo: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with service_logs(echo=echo) as logs:
        with logs.pipe("the Prefect server") as descriptor:
            process = start(PRINT, log=descriptor)
        process.wait(60)
    file = no_server / "kdflow-logs" / "prefect-server.log"
    assert file == log_file("the Prefect server")
    assert last_lines(file) == ["from stdout", "http://ml.example"]
    assert capfd.readouterr().err == ("from stdout\nhttp://ml.example\n" if echo else "")
    assert stat.S_IMODE(log_folder().stat().st_mode) == 0o700


@pytest.mark.fault
def test_log_files_rotate(no_server: Path) -> None:
    with service_logs(echo=False) as logs:
        with logs.pipe("the worker") as descriptor:
            process = start(PRINT_MANY, str((OLD_FILES + 2) * LARGEST_FILE // 1000), log=descriptor)
        process.wait(60)
    files = sorted(path.name for path in log_folder().iterdir())
    assert files == ["worker.log", *(f"worker.log.{number}" for number in range(1, OLD_FILES + 1))]
    assert max(path.stat().st_size for path in log_folder().iterdir()) <= LARGEST_FILE


def test_the_last_lines_of_a_missing_and_of_a_long_file(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "missing.log") == []
    (tmp_path / "long.log").write_text("".join(f"{number}\n" for number in range(100)))
    assert last_lines(tmp_path / "long.log") == [str(number) for number in range(100 - LAST_LINES, 100)]
