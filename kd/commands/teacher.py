"""The command `kd teacher`. It trains the teacher of an experiment and registers the teacher as a model."""

import sys
from typing import Annotated

import typer

from flows.experiments import load_experiment, mistakes_located
from flows.teacher import teacher
from kd import console
from kd.exit_codes import usage_errors
from kd.options import AllowCode, DataDir, ExperimentName, Json
from kd.prefect_flows import server_for_flows
from kdmodels.experiment.named_files import require_files
from kdmodels.report import formats
from tasks import tracking
from tasks.references import Options
from tasks.register_teacher import (
    TeacherVersion,
    require_model_of_teachers,
    require_one_teacher,
    require_unregistered_teacher,
)
from tasks.results import ACCURACY


def command(
    experiment: ExperimentName = None,
    model: Annotated[
        str | None,
        typer.Option("--as", metavar="MODEL", help="Name of the registered model. Default: EXPERIMENT-teacher."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. teacher.epochs=5."),
    ] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
    as_json: Json = False,
) -> None:
    """Train the teacher of an experiment and register it as a model.

    Other experiments then use it with `teacher: {registry: MODEL}`.
    """
    with usage_errors():
        chosen = load_experiment(experiment, set_ or ()).allowing(allow_code or ())
        require_one_teacher(chosen)
        require_unregistered_teacher(chosen)
    folder = str(data_dir) if data_dir else None
    assert experiment is not None, "load_experiment() refuses None"
    with mistakes_located(experiment, set_ or ()):
        require_files(chosen, folder)
    name = model or f"{chosen.name}-teacher"
    tracking.configure()
    with usage_errors():
        tracking.require_name(name)
        require_model_of_teachers(name, chosen)
    print(f"{chosen.name}: teacher; starting", file=sys.stderr)
    with mistakes_located(experiment, set_ or ()), server_for_flows():
        version = teacher(chosen, Options(data_dir=folder), name)
    if as_json:
        console.print_json(version.model_dump())
    else:
        console.print_text(_in_words(version), *(f"note: {warning}" for warning in version.warnings))


def _in_words(version: TeacherVersion) -> str:
    origin = f"{'reused ' if version.reused else ''}run {version.run_id[:8]}"
    return (
        f"{version.model} version {version.version}: {formats.percent(version.metrics[ACCURACY])} on validation "
        f"({origin}). In an experiment file: teacher: {{registry: {version.model}}}"
    )
