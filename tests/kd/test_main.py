"""The command table, what each command imports, and the exit codes of errors."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import kd.commands
from kd.exit_codes import ERROR, USAGE
from kd.main import COMMANDS, explain, print_error
from kdmodels.errors import UnavailableError, UsageError, UserError
from tests.conftest import Here
from tests.kd.conftest import KD

SLOW = ("torch", "mlflow", "prefect")
IMPORTS = """
import sys
from kd import main
sys.argv = ["kd", *{words}]
try:
    main.main()
except SystemExit:
    pass
print([name for name in {names} if name in sys.modules], file=sys.stderr)
"""


def test_the_table_lists_every_command_module() -> None:
    assert sorted(COMMANDS) == sorted(module.name for module in iter_modules(kd.commands.__path__))


def test_the_table_has_the_first_line_of_each_help() -> None:
    docstrings = {name: import_module(f"kd.commands.{name}").command.__doc__ for name in COMMANDS}
    assert {name: doc.splitlines()[0] for name, doc in docstrings.items()} == COMMANDS


def test_every_summary_fits_into_80_columns() -> None:
    assert max(map(len, COMMANDS.values())) <= 65


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--help"], (*SLOW, "pydantic", "pandas", "sklearn")),
        (["run", "--help"], (*SLOW, "pandas", "sklearn")),
        (["run", "digit"], (*SLOW, "pandas", "sklearn")),
    ],
    ids=" ".join,
)
def test_help_and_a_mistake_import_nothing_slow(words: list[str], names: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", IMPORTS.format(words=words, names=names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_takes_at_most_300_ms_of_processor_time() -> None:
    """Wall-clock time depends on other processes."""
    before = os.times()
    subprocess.run([KD, "--help"], capture_output=True, timeout=60, check=True)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system <= 0.3


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("name: wrong"), USAGE, "name: wrong"),
        (UserError("no such file"), ERROR, "no such file"),
        (UnavailableError("no answer"), ERROR, "no answer"),
        (ValueError("two\nlines"), ERROR, "ValueError: two lines (run again with kd --debug to see the traceback)"),
    ],
)
def test_an_error_has_a_code_and_one_line(error: Exception, code: int, message: str) -> None:
    assert explain(error) == (code, message)


@pytest.mark.parametrize("debug", ["", "1"])
def test_secrets_and_terminal_escapes_are_not_printed(
    debug: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KD_DEBUG", debug)
    error = UserError("http://user:secret@host/ \x1b[2J")
    print_error(error, str(error))
    lines = capsys.readouterr().err
    assert "secret" not in lines
    assert lines.splitlines()[-1].startswith("kd: error: http://")
    assert lines.endswith("\\x1b[2J\n")
    assert (len(lines.splitlines()) > 1) == bool(debug)


def test_debug_shows_the_traceback_of_a_mistake(kd_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DEBUG", "")
    code, _, error = kd_here("--debug", "run", "digit")
    assert code == USAGE
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("kd: error: digit: ")


def test_the_version_is_printed(kd_here: Here) -> None:
    code, out, error = kd_here("--version")
    assert (code, error) == (0, "")
    assert out.startswith("kdflow ")


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = [KD, "variants", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""


@pytest.mark.parametrize("code", [0, 1])
def test_the_process_exits_without_waiting_for_its_threads_and_modules(code: int) -> None:
    """After a failure also without the `atexit` functions of libraries, which may wait for a server that is gone."""
    script = f"""
import atexit, sys, time
from kd import main
class Slow:
    def __del__(self): time.sleep(60)
sys.slow = Slow()
def run():
    atexit.register(print, "at exit")
    return {code}
main.main = run
main.script()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout == ("" if code else "at exit\n")
