"""The `kd` command: each command parses, calls, prints. What is slow to import is imported inside the commands."""

import contextlib
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kdmodels.errors import UserError
from tasks import interruption

BEGAN = time.monotonic()
DONE, ERROR, USAGE, STUDENTS_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

app = typer.Typer(
    help="Knowledge distillation: compare losses, promote the best student.",
    epilog="Exit codes: 0 done, 1 error, 2 usage or bad experiment, 3 some students failed, 4 the gate refused, "
    "130 interrupted.",
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode=None,  # rich would double the time of --help
    pretty_exceptions_enable=False,
)


class UsageError(UserError):
    """What was typed is wrong or names what does not exist: exit code 2."""


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Within it the user's words are looked up, so that a UserError is one of usage."""
    try:
        yield
    except UserError as error:
        raise UsageError(str(error)) from error


def main() -> int:
    """Run the command and return its exit code.

    0: done. 1: an error in the work: data or store that can't be read, a taken port, no student finished, a bug.
    2: what was typed is wrong: options, the experiment file, or a name of an experiment, variant, run or model.
    3: some students failed, the others are kept; it comes before 4. 4: the gate refused, where promotion was asked for:
    `kd promote`, `kd run --require-promotion`; a winner that is the champion already is not refused.
    130: interrupted, by Ctrl-C or SIGTERM.
    """
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
    except UserError as error:
        code = _tell(error, str(error), USAGE if isinstance(error, UsageError) else ERROR)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes at exit
        return ERROR
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        text = " ".join(str(error).split())
        code = _tell(error, f"{type(error).__name__}: {text} (run again with kd --debug to see where)", ERROR)
    if code == INTERRUPTED:
        print("kd: interrupted", file=sys.stderr)
    return code or DONE


def _interrupt(*_: object) -> None:
    """Tell training too, for Python drops an exception that a signal raises in the middle of a clean-up."""
    interruption.stop()
    raise KeyboardInterrupt


def _tell(error: Exception, text: str, code: int) -> int:
    if os.environ.get("KD_DEBUG"):
        traceback.print_exception(error)
    for line in text.splitlines():
        print(f"kd: error: {line}", file=sys.stderr)
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


def _experiments(incomplete: str) -> list[str]:
    from flows.experiments import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def _variants(context: typer.Context, incomplete: str) -> list[str]:
    chosen, comma, last = incomplete.rpartition(",")
    experiment = next(iter(context.args), None)  # an option without its value leaves the arguments unparsed
    from flows.run import find_experiment

    try:
        names = [variant.name for variant in find_experiment(experiment).variants]
    except UserError:  # of the experiment, which is told when the command runs
        return []
    return [chosen + comma + name for name in names if name.startswith(last)]


Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DataDir = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, resolve_path=True, help="The data's folder; else $KD_DATA."),
]
Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="An id, the beginning of one, or a run's name.")]


@app.command()
def run(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT|FILE", help="A shipped one, such as digits, or a file.", autocompletion=_experiments
        ),
    ] = None,
    variants: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these, and the control.", autocompletion=_variants)
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As student.epochs=5.")] = None,
    data_dir: DataDir = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train everything anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and why.")] = False,
    require_promotion: Annotated[bool, typer.Option("--require-promotion", help="Exit 4 if refused.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Compare an experiment's loss variants and promote the best student."""
    from flows import run as runner

    with usage():
        wanted = runner.find_experiment(experiment, set_ or (), variants)
    from tasks.references import Options

    options = Options(fresh=fresh, data_dir=str(data_dir) if data_dir else None, quiet=quiet)
    if not quiet and not dry_run:
        print(
            f"{wanted.name}: {_counted(len(wanted.variants), 'variant')}, "
            f"{_counted(wanted.student.seeds, 'seed')} each; starting",
            file=sys.stderr,
        )
    if dry_run:
        from flows import console
        from flows.distill import plan_only

        plan = plan_only(wanted, options)
        console.print_json(plan.model_dump()) if as_json else console.print_plan(plan)
        return DONE
    with contextlib.redirect_stdout(sys.stderr):
        outcome, failed = runner.run(wanted, options, began=BEGAN, quiet=quiet)
    from flows import console

    if as_json:
        console.print_json(outcome.model_dump())
    else:
        console.print_outcome(outcome)
    if failed:
        return STUDENTS_FAILED
    refused = not (outcome.verdict.promoted or outcome.verdict.already_champion)
    return REFUSED if require_promotion and refused else DONE


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@app.command("list")
def list_(
    experiments: Annotated[bool, typer.Option("--experiments", help="The experiments instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many runs.")] = 30,
    as_json: Json = False,
) -> None:
    """List the runs, newest first."""
    from flows import console, inspect

    rows = inspect.list_experiments() if experiments else inspect.list_runs(limit)
    if as_json:
        console.print_json(rows)
    elif rows:
        short = [row | {"run_id": row["run_id"][:8]} if "run_id" in row else row for row in rows]
        console.print_table(short, {key: key for key in rows[0] if key != "parent"})
    else:
        print("no runs yet; begin with: kd run digits")


@app.command()
def compare(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="The last comparison if none.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
    as_json: Json = False,
) -> None:
    """Compare students: those of the last comparison, of others, or some."""
    if csv + markdown + as_json > 1:
        raise UsageError("--csv, --markdown and --json: allowed is one of them")
    from flows import console, inspect
    from kdmodels.report.leaderboard import leaderboard, to_markdown
    from tasks import tracking

    tracking.configure()
    with usage():
        rows = inspect.compare(runs or [])
    if as_json:
        console.print_json(rows)
    elif csv:
        print(leaderboard(rows).to_csv(index=False), end="")
    elif markdown:
        print(to_markdown(leaderboard(rows)))
    else:
        console.print_leaderboard(rows)


@app.command()
def show(run: Annotated[str, typer.Argument(metavar="RUN")], as_json: Json = False) -> None:
    """Show all that is known of a run."""
    from flows import console, inspect
    from tasks import tracking

    tracking.configure()
    with usage():
        found = inspect.show(run)
    if as_json:
        console.print_json(found)
    else:
        console.print_fields(found)


@app.command()
def promote(run: Run = None, data_dir: DataDir = None, as_json: Json = False) -> int:
    """Send the last comparison's winner, or a run, through the gate."""
    from flows import console
    from flows import promote as gate

    with usage():
        gate.find(run)
    verdict = gate.promote(run, data_dir=str(data_dir) if data_dir else None)
    if as_json:
        console.print_json(verdict.model_dump())
    else:
        console.print_verdict(verdict)
    return DONE if verdict.promoted or verdict.already_champion else REFUSED


@app.command()
def rollback(model: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """Make a model's previous champion the champion again."""
    from flows import promote as gate
    from tasks import tracking

    tracking.configure()
    with usage():
        version = gate.rollback(model)
    print(f"{version.model}: version {version.version} is the champion again ({version.uri})")


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="name, name@alias, name/3 or a models:/ URI.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", exists=True, help="Images, or folders of them.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A CSV file; else stdout.")] = None,
) -> None:
    """Classify images by a registered model."""
    from flows import predict as predictor
    from tasks import tracking

    tracking.configure()
    with usage():
        tracking.find_model(model)
    rows = predictor.predict(model, paths)
    predictor.write_csv(rows, out)
    if out:
        print(f"wrote {len(rows)} rows to {out}", file=sys.stderr)


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Serve the MLflow UI until Ctrl-C."""
    from flows.ui import ui as serve

    serve(port)


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of Prefect.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Of MLflow.")] = 5000,
) -> None:
    """Serve schedules, Prefect's UI and the MLflow UI until Ctrl-C."""
    from flows import deployments

    deployments.up(port=port, mlflow_port=mlflow_port)


@app.command()
def schedule(
    file: Annotated[
        str | None, typer.Argument(metavar="EXPERIMENT|FILE", autocompletion=_experiments, help="What shall run.")
    ] = None,
    cron: Annotated[str | None, typer.Option(help="As '0 3 * * *'.")] = None,
    every: Annotated[int | None, typer.Option(min=1, metavar="SECONDS")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of --cron, as Europe/Berlin; else UTC.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the schedules.")] = False,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Delete a schedule.")] = None,
) -> None:
    """Make an experiment run by itself while `kd up` serves."""
    if (file is not None) + list_ + (delete is not None) != 1:
        raise UsageError("allowed is one of: an experiment or a file, --list, --delete NAME")
    from flows.run import find_experiment

    with usage():
        experiment = find_experiment(file) if file else None
    from flows import console, deployments

    with usage():
        if experiment:
            rows = [deployments.schedule(experiment, cron=cron, every=every, timezone=timezone)]
        elif delete is not None:
            deployments.unschedule(delete)
            rows = []
        else:
            rows = deployments.schedules()
    if delete is not None:
        print(f"deleted the schedule of {delete}", file=sys.stderr)
        return
    console.print_table(rows, {key: key for key in ("name", "cron", "timezone", "every", "active")})


@app.command()
def doctor(as_json: Json = False) -> int:
    """Check what kdflow needs on this machine."""
    from flows import console
    from flows.doctor import checks

    rows = checks()
    if as_json:
        console.print_json(rows)
    else:
        console.print_table(rows, {"name": "check", "ok": "ok", "detail": "found", "remedy": "remedy"})
    return ERROR if any(row["ok"] is False for row in rows) else DONE


@app.command()
def init(file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Write a commented experiment file to edit."""
    from flows.experiments import write_template

    with usage():
        write_template(file)
    print(f"wrote {file}; run it with: kd run {file}", file=sys.stderr)


@app.command()
def variants(
    names: Annotated[list[str] | None, typer.Argument(metavar="[VARIANT]...")] = None, as_json: Json = False
) -> None:
    """List the ready-made variants; of the named ones every loss with its formula, defaults, weight and cost."""
    from flows import console
    from kdmodels.report import losses

    with usage():
        rows, details = losses.variant_rows(names), losses.loss_rows(names)
    if as_json:
        console.print_json({"variants": rows, "losses": details})
        return
    console.print_table(rows, {"name": "variant", "terms": "losses", "paper": "paper"})
    if names:
        for row in details:
            console.print_fields({row.pop("name"): row})
