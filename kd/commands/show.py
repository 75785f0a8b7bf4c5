"""The command `kd show`. It shows one run, e.g. the run of a registered model."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from kd import console
from kd.exit_codes import usage_errors
from kd.options import RUN_HELP, Json
from kdmodels.errors import UsageError
from tasks import queries, tracking
from tasks.listings import ClassLine, RunLine, StudentDetails, TeacherDetails, TrialLine, TuningDetails

HELP = f"{RUN_HELP} Or a registered model, e.g. digits-student, digits-student@previous or digits-student/3."
CLASSES = 20  # maximum number of rows in the table of classes
TRIALS = 5  # maximum number of rows in the table of trials


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|MODEL", help=HELP)],
    spec: Annotated[bool, typer.Option("--spec", help="Print the experiment file that reproduces the run.")] = False,
    as_json: Json = False,
) -> None:
    """Show everything that is recorded about a run."""
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
    first = {*RunLine.model_fields, "error"}
    console.print_fields(details.model_dump(by_alias=True, include=first))
    if isinstance(details, StudentDetails):
        print_trained_with(details.trained_with)
    console.print_fields(details.model_dump(by_alias=True, exclude={*first, "classes", "trials", "trained_with"}))
    if isinstance(details, StudentDetails | TuningDetails):
        print_trials(details.trials)
    if isinstance(details, TeacherDetails | StudentDetails):
        print_classes(details.classes)


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
