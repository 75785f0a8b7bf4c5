"""`kd run`, and what reads the runs: `kd list`, `kd compare`, `kd show`."""

import contextlib
import sys
from typing import Annotated

import typer

from flows.commands.shared import (
    BEGAN,
    DONE,
    REFUSED,
    STUDENTS_FAILED,
    AllowCode,
    DataDir,
    Json,
    UsageError,
    experiments,
    usage,
)
from kdmodels.errors import UserError
from kdmodels.text import escaped


def _variants(context: typer.Context, incomplete: str) -> list[str]:
    chosen, comma, last = incomplete.rpartition(",")
    experiment = next(iter(context.args), None)  # an option without its value leaves the arguments unparsed
    from flows.run import find_experiment

    try:
        names = [variant.name for variant in find_experiment(experiment).variants]
    except UserError:  # of the experiment, which is told when the command runs
        return []
    return [chosen + comma + name for name in names if name.startswith(last)]


def run(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT|FILE", help="A shipped one, such as digits, or a file.", autocompletion=experiments
        ),
    ] = None,
    variants: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these, and the control.", autocompletion=_variants)
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As student.epochs=5.")] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
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
    wanted = runner.with_code(wanted, allow_code or ())
    runner.check_named(wanted, str(data_dir) if data_dir else None)
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
    from tasks import results, tracking

    if as_json:
        console.print_json(outcome.model_dump())
    else:
        console.print_outcome(outcome, results.right(tracking.get(outcome.parent_run_id)))
    if failed:
        return STUDENTS_FAILED
    return REFUSED if require_promotion and not outcome.verdict.accepted else DONE


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
    from kdmodels.report.evidence import evidence
    from kdmodels.report.leaderboard import efficient, leaderboard, to_markdown
    from tasks import tracking

    tracking.configure()
    with usage():
        rows, right = inspect.compare(runs or [])
    if as_json:
        compared = zip(rows, evidence(rows, right), strict=True)
        console.print_json([row | line | {"pareto": efficient(row, rows)} for row, line in compared])
    elif csv:
        print(leaderboard(rows, right).to_csv(index=False), end="")
    elif markdown:
        print(escaped(to_markdown(leaderboard(rows, right)), keep="\n"))
    else:
        console.print_leaderboard(rows, right)


def show(
    run: Annotated[str, typer.Argument(metavar="RUN")],
    spec: Annotated[bool, typer.Option("--spec", help="The experiment file that reproduces it.")] = False,
    as_json: Json = False,
) -> None:
    """Show all that is known of a run."""
    if spec and as_json:
        raise UsageError("--spec, --json: allowed is one of them")
    from flows import console, inspect
    from tasks import tracking

    tracking.configure()
    if spec:
        with usage():
            print(inspect.spec(run), end="")
        return
    with usage():
        found = inspect.show(run)
    if as_json:
        console.print_json(found)
    else:
        classes = found.pop("classes", [])
        console.print_fields(found)
        console.print_classes(classes)
