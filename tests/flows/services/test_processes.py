"""Child processes end with the process that started them. test_prefect_server.py kills a command with kill -9."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

from flows.services.processes import spawn, stop

SLEEP = "import time; time.sleep(1000)"
PARENT_AND_CHILD = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "{SLEEP}"])
open(sys.argv[1], "w").write(str(child.pid) + "\\n")
child.wait()
"""
# Each child needs a second to close its records after SIGTERM. The parent then starts the next child, like a worker.
ONE_CHILD_AFTER_THE_OTHER = """
import subprocess, sys
CHILD = '''
import pathlib, signal, sys, time
file = pathlib.Path(sys.argv[1])
def close(*_):
    time.sleep(1)
    file.write_text("closed")
    sys.exit()
signal.signal(signal.SIGTERM, close)
file.write_text("open")
time.sleep(1000)
'''
for number in (1, 2):
    subprocess.run([sys.executable, "-c", CHILD, sys.argv[1] + str(number)])
"""


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_stop_ends_a_process_and_its_descendants(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    process = spawn([sys.executable, "-c", PARENT_AND_CHILD, str(file)], log=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(file.read_text())
    assert is_running(pid)
    stop(process)
    assert process.returncode is not None
    assert not is_running(pid)


def test_a_child_that_starts_while_another_ends_may_close_its_records_too(tmp_path: Path) -> None:
    """A scheduled run used to stay RUNNING in MLflow, because the worker started it while the earlier run ended."""
    files = [tmp_path / "1", tmp_path / "2"]
    command = [sys.executable, "-c", ONE_CHILD_AFTER_THE_OTHER, f"{tmp_path}/"]
    process = spawn(command, log=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (files[0].exists() and files[0].read_text() == "open"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stop(process)
    assert files[0].read_text() == "closed"
    assert not files[1].exists() or files[1].read_text() == "closed"


def test_a_process_is_started_with_additional_environment_variables(tmp_path: Path) -> None:
    script = "import os; print(os.environ['KD_TEST'], 'PATH' in os.environ)"
    with (tmp_path / "log").open("wb") as log:
        process = spawn([sys.executable, "-c", script], log=log, env={"KD_TEST": "value"})
        assert process.wait(60) == 0
    assert (tmp_path / "log").read_text() == "value True\n"
    assert "KD_TEST" not in os.environ


def test_a_forked_process_does_not_keep_a_child_process_alive() -> None:
    """A forked process must close its copy of the pipe whose end tells the guard to stop."""
    process = spawn([sys.executable, "-c", SLEEP], log=subprocess.DEVNULL)
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    worker.start()
    try:
        stop(process)  # raises TimeoutExpired if the process goes on
        assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()
