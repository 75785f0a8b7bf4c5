"""The command `kd show`. It shows one run, e.g. the run of a registered model."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from kd import console
from kd.exit_codes import usage_errors
from kd.options import RUN_HELP, Json
from kd.run_table import print_runs
from kdmodels.errors import UsageError
from tasks import queries, tracking
from tasks.listings import (
    ClassLine,
    ComparisonDetails,
    Figures,
    RunLine,
    StudentDetails,
    TeacherDetails,
    TrialLine,
    TuningDetails,
    VersionLine,
)
from tasks.results import ACCURACY

HELP = f"{RUN_HELP} Or a registered model, e.g. digits-student, digits-student@previous or digits-student/3."
TABLES = {"versions", "children", "seeds", "classes", "trials", "trained_with"}  # fields that have their own tables
CLASSES = 20  # maximum number of rows in the table of classes
TRIALS = 5  # maximum number of rows in the table of trials


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|MODEL", help=HELP)],
    spec: Annotated[bool, typer.Option("--spec", help="Print the experiment file that reproduces the run.")] = False,
    as_json: Json = False,
) -> None:
    """Show everything that is recorded about a run.

    For a registered model, also show its versions and where each came from.
    """
    if spec and as_json:
        raise UsageError("--spec, --json: expected at most one of these options")
    tracking.configure()
    if spec:
        with usage_errors():
            print(queries.spec(run), end="")
        return
    with usage_errors():
        details = queries.show(run)
    if as_json:
        console.print_json(details)
        return
    print_versions(details.versions)
    first = {*RunLine.model_fields, "error"}
    fields = details.model_dump(by_alias=True, include=first) | {"started": console.local_time(details.started)}
    console.print_fields(fields)
    if isinstance(details, StudentDetails):
        print_trained_with(details.trained_with)
    console.print_fields(details.model_dump(by_alias=True, exclude=first | TABLES))
    if isinstance(details, ComparisonDetails) and details.children:
        console.print_text("children")
        print_runs(details.children)
    if isinstance(details, StudentDetails):
        print_seeds(details.seeds)
    if isinstance(details, StudentDetails | TuningDetails):
        print_trials(details.trials)
    if isinstance(details, TeacherDetails | StudentDetails):
        print_classes(details.classes)


def print_versions(versions: Sequence[VersionLine]) -> None:
    """Print a table of the versions of a registered model, and where each came from."""
    if versions:
        rows = [
            {
                "version": line.version,
                "aliases": line.aliases,
                "made by": line.made_by,
                "test %": line.test_accuracy and line.test_accuracy.replace(" %", "", 1),
                "run": line.run_id and line.run_id[:8],
                "comparison": line.comparison and line.comparison[:8],
                "note": line.note,
            }
            for line in versions
        ]
        columns = {key: key for key in rows[0] if any(row[key] for row in rows)}
        console.print_table(rows, columns, optional=("comparison", "note", "test %"))
        console.print_text("")


def print_seeds(seeds: Sequence[Figures]) -> None:
    """Print a table of the replicas. If the terminal is narrow, losses are left out."""
    if seeds:
        console.print_text("seeds")
        losses = [key for key in seeds[0] if key not in ("seed", "epoch", ACCURACY)]
        console.print_table(seeds, {key: key for key in seeds[0]}, optional=losses)


def print_trained_with(values: Mapping[str, float] | None) -> None:
    """Print the tuned hyperparameters with which a student was trained.

    These values are printed separately, because the params of the run hold the values of the experiment file.
    """
    console.print_fields({"trained with": {name: f"{value:.4g}" for name, value in (values or {}).items()}})


def print_trials(trials: Sequence[TrialLine]) -> None:
    """Print a table of the trials with the highest accuracy."""
    if trials:
        more = f" (the most accurate {TRIALS} of {len(trials)})" if len(trials) > TRIALS else ""
        console.console().print(f"trials on the inner split of the training data{more}", soft_wrap=True)
        rows = [
            {name: "diverged" if value is None else f"{value:.4g}" for name, value in trial.items()}
            for trial in trials[:TRIALS]
        ]
        console.print_table(rows, {key: key for key in rows[0]})


def print_classes(classes: Sequence[ClassLine]) -> None:
    """Print a table of the classes with the lowest accuracy."""
    if classes:
        more = f" (the least accurate {CLASSES} of {len(classes)})" if len(classes) > CLASSES else ""
        console.console().print(f"classes on validation{more}", soft_wrap=True)
        rows = [line.model_dump(by_alias=True) for line in classes[:CLASSES]]
        console.print_table(rows, {key: key for key in rows[0]})
