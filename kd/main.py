"""The entry point of the program `kd`. The table `COMMANDS` lists the commands.

A command's module in `kd/commands` is imported only when the command runs, so `kd --help` imports no slow library.
"""

import atexit
import os
import sys
import traceback
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kd.exit_codes import DONE, ERROR, INTERRUPTED, USAGE
from kd.interrupts import Interrupts, exit_now
from kdmodels.errors import CancelledError, UsageError, UserError, redacted
from kdmodels.text import escaped

COMMANDS = {  # module in kd/commands -> first line of the docstring of its `command`
    "run": "Compare loss variants and promote the best, or train a generator.",
    "reproduce": "Test the claims of a paper: compare our values with the paper's.",
    "teacher": "Train the teacher of an experiment and register it as a model.",
    "watch": "Follow a running comparison or generation until it ends.",
    "cancel": "Stop a running comparison or generation, wherever it runs.",
    "list": "List the runs, newest first.",
    "compare": "Compare students of the last comparison, or of given runs.",
    "report": "Write the report of a comparison as one HTML file.",
    "bundle": "Write a comparison to one file for a colleague, or import it.",
    "show": "Show everything that is recorded about a run.",
    "history": "Show a model's versions, decisions and looks at the test split.",
    "register": "Make your present model the champion that students must beat.",
    "promote": "Promote a winner or a run if the promotion gate accepts it.",
    "approve": "Approve the waiting version of a model as its new champion.",
    "reject": "Reject the waiting version of a model. The champion stays.",
    "rollback": "Make a model's previous champion the champion again.",
    "predict": "Classify images with a registered model.",
    "sample": "Generate images with a registered generator.",
    "export": "Write a model as a file for another runtime.",
    "ui": "Serve the MLflow UI until Ctrl-C.",
    "up": "Serve schedules, the Prefect UI and the MLflow UI until Ctrl-C.",
    "status": "Show the services of `kd up`, the schedules and their results.",
    "down": "Stop `kd up`, and wait until its processes have ended.",
    "schedule": "Run an experiment on a schedule while `kd up` serves.",
    "worker": "Run the schedules of a team's Prefect server until Ctrl-C.",
    "doctor": "Check this machine, and clean up after dead processes.",
    "delete": "Delete a run or an experiment, and what depends on it.",
    "gc": "Delete old runs and caches that are no longer needed.",
    "init": "Write an experiment file to edit, or passwords of a team stack.",
    "variants": "List presets or the variants of a file, and their losses.",
}


def _new_app(
    cls: type[TyperGroup] = TyperGroup, *, help: str = "", epilog: str = "", add_completion: bool = False
) -> typer.Typer:
    return typer.Typer(
        cls=cls,
        help=help,
        epilog=epilog,
        add_completion=add_completion,
        context_settings={"help_option_names": ["--help", "-h"]},
        rich_markup_mode=None,  # formatting by rich would double the time of --help
        pretty_exceptions_enable=False,
    )


class LazyGroup(TyperGroup):
    """The group of all commands. The module of a command is imported only when the command is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import a command. Return the command's name, the command, and the remaining arguments."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        if placeholder is None or name is None:
            return name, None, rest
        loaded = _new_app()
        loaded.command(name)(import_module(f"kd.commands.{name}").command)
        return name, typer.main.get_command(loaded), rest


app = _new_app(
    LazyGroup,
    add_completion=True,
    help="Knowledge distillation: compare losses, promote the best student.",
    epilog="Exit codes: 0 done, 1 error, 2 usage or bad experiment, 3 some students failed, 4 the gate refused, "
    "130 interrupted.",
)
for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)


def script() -> None:
    """Run the console script `kd`.

    After a successful command, the `atexit` functions run. Then the process exits without unloading modules, because
    unloading torch and MLflow takes 1 to 3 s. After a failed command, the `atexit` functions do not run, because
    one of Prefect's would wait for minutes if the server has stopped (tests/faults/test_servers.py).
    """
    code = ERROR
    atexit.register(lambda: exit_now(code))  # the function registered first runs last
    code = main()
    if code != DONE:
        exit_now(code)


def main() -> int:
    """Run the command and return its exit code.

    Returns:
        0: The command succeeded.
        1: The command failed, for example because of unreadable data, an unreadable store, a port in use, or a bug. The
           code is also 1 if no student finished.
        2: An option or the experiment file is invalid, or no experiment, variant, run or model has the given name.
        3: At least one student failed. The results of the other students are kept. Code 3 takes precedence over 4.
        4: The promotion gate refused the promotion that `kd promote` or `kd run --require-promotion` requested. The
           gate also refuses a winner that is already the champion but no longer meets the requirements.
        130: Ctrl-C or SIGTERM interrupted the command, or `kd cancel` cancelled its run.
    """
    Interrupts().install()
    if sys.stdout is None:  # the caller closed stdout, e.g. with `kd list >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process exits
    try:
        code = app(prog_name="kd", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports the error again at exit
        return ERROR
    except typer.Abort:
        return INTERRUPTED
    except CancelledError as error:
        print(f"kd: {escaped(str(error))}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        code, message = explain(error)
        print_error(error, message)
    if code == INTERRUPTED:
        print("kd: interrupted", file=sys.stderr)
    return code or DONE


def explain(error: Exception) -> tuple[int, str]:
    """Return the exit code and the message of an error."""
    if isinstance(error, typer.TyperException):
        return USAGE, f"{error.format_message()} (kd --help lists the commands)"
    if isinstance(error, UserError):
        return USAGE if isinstance(error, UsageError) else ERROR, str(error)
    # tasks.tracking is slow to import. A command that uses the tracking store has already imported it.
    tracking = sys.modules.get("tasks.tracking")
    if tracking and (outage := tracking.outage(error)):
        return ERROR, str(outage)
    message = " ".join(str(error).split())
    return ERROR, f"{type(error).__name__}: {message} (run again with kd --debug to see the traceback)"


def print_error(error: Exception, message: str) -> None:
    """Print an error's message on stderr, with secrets redacted. With `--debug`, print the traceback first."""
    if os.environ.get("KD_DEBUG"):
        sys.stderr.write(escaped(redacted("".join(traceback.format_exception(error))), keep="\n\t"))
    for line in redacted(message).splitlines():
        print(f"kd: error: {escaped(line)}", file=sys.stderr)


def _print_version(value: bool) -> None:
    if value:
        metadata = import_module("importlib.metadata")  # this import takes a fifth of the time of --help
        print(f"kdflow {metadata.version('kdflow')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", envvar="KD_DEBUG", help="Show tracebacks and logs.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Set up logs and warnings before the command runs."""
    os.environ["KD_DEBUG"] = "1" if debug else ""
    if not debug and not sys.warnoptions:  # users cannot act on warnings of libraries
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # for worker processes
