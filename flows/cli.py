"""The `kd` command: the table of its commands, and how they end. What is slow to import is imported inside them."""

import atexit
import contextlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from flows.commands import models, runs, services, starting
from flows.commands.shared import DONE, ERROR, INTERRUPTED, USAGE, ServerGoneError, UsageError
from kdmodels.errors import UserError, redacted
from kdmodels.text import escaped
from tasks import interruption

app = typer.Typer(
    help="Knowledge distillation: compare losses, promote the best student.",
    epilog="Exit codes: 0 done, 1 error, 2 usage or bad experiment, 3 some students failed, 4 the gate refused, "
    "130 interrupted.",
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode=None,  # rich would double the time of --help
    pretty_exceptions_enable=False,
)


class _Command:
    """Whether a signal has interrupted it."""

    interrupted = False


def script() -> None:
    """The console script: `main`, and then out at once; else the interpreter takes 3 s to take down torch's modules.

    Where not all went well not even what libraries do at exit is waited for: it may wait for a process that is gone.
    """
    code = ERROR
    atexit.register(lambda: _leave(code))  # registered first, so that it runs after all others
    sys.unraisablehook = _dropped
    code = main()
    if code != DONE:
        _leave(code)


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody listens, or it was closed by the caller
            stream.flush()
    os._exit(code)


def main() -> int:
    """Run the command and return its exit code.

    0: done. 1: an error in the work: data or store that can't be read, a taken port, no student finished, a bug.
    2: what was typed is wrong: options, the experiment file, or a name of an experiment, variant, run or model.
    3: some students failed, the others are kept; it comes before 4. 4: the gate refused, where promotion was asked for:
    `kd promote`, `kd run --require-promotion`; a winner that is the champion already is refused if it does not meet
    the requirements.
    130: interrupted, by Ctrl-C or SIGTERM.
    """
    _Command.interrupted = False
    signal.signal(signal.SIGTERM, _interrupt)  # inside a flow Prefect's own, which ends in this one
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _interrupt)
    if sys.stdout is None:  # closed by the caller, as in `kd list >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
    try:
        code = app(prog_name="kd", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        code = _tell(error, f"{error.format_message()} (kd --help lists what there is)", USAGE)
    except ServerGoneError as error:
        _leave(_tell(error, str(error), ERROR))
    except UserError as error:
        code = _tell(error, str(error), USAGE if isinstance(error, UsageError) else ERROR)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes at exit
        return ERROR
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        code = _tell(error, _outage(error) or _bug(error), ERROR)
    if code == INTERRUPTED:
        print("kd: interrupted", file=sys.stderr)
    return code or DONE


def _interrupt(*_: object) -> None:
    """Tell training too, for Python drops an exception that a signal raises in the middle of a clean-up.

    The second time there is no clean-up: what this process began ends by itself when it sees that it is gone.
    """
    if _Command.interrupted:
        print("kd: stopped at once", file=sys.stderr)
        os._exit(INTERRUPTED)
    _Command.interrupted = True
    interruption.interrupt()


def _dropped(lost: "sys.UnraisableHookArgs") -> None:
    """Of the interruption that Python drops there is nothing to say: training knows, and ends by it."""
    if not (_Command.interrupted and isinstance(lost.exc_value, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)


def _outage(error: Exception) -> str:
    """The line on a store, a server or a disk that failed in the middle of the work; empty where it was none."""
    tracking = sys.modules.get("tasks.tracking")  # which is slow to import, and has been where anything was recorded
    return str(tracking.outage(error) or "") if tracking else ""


def _bug(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} (run again with kd --debug to see where)"


def _tell(error: Exception, text: str, code: int) -> int:
    if os.environ.get("KD_DEBUG"):
        sys.stderr.write(escaped(redacted("".join(traceback.format_exception(error))), keep="\n\t"))
    for line in redacted(text).splitlines():
        print(f"kd: error: {escaped(line)}", file=sys.stderr)
    return code


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"kdflow {version('kdflow')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", envvar="KD_DEBUG", help="Show tracebacks and logs.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Options before the command."""
    os.environ["KD_DEBUG"] = "1" if debug else ""
    if not debug and not sys.warnoptions:  # the libraries', which no user can act on
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # of worker processes


COMMANDS: dict[str, Callable[..., int | None]] = {
    "run": runs.run,
    "list": runs.list_,
    "compare": runs.compare,
    "show": runs.show,
    "promote": models.promote,
    "rollback": models.rollback,
    "predict": models.predict,
    "export": models.export,
    "ui": services.ui,
    "up": services.up,
    "schedule": services.schedule,
    "doctor": starting.doctor,
    "gc": services.gc,
    "init": starting.init,
    "variants": starting.variants,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
