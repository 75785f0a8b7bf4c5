"""The command `kd register`. It makes a model from elsewhere the champion that the next student has to beat."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.experiments import load_experiment, mistakes_located
from flows.register import register
from kd import console
from kd.exit_codes import usage_errors
from kd.options import AllowCode, DataDir, ExperimentName
from kd.prefect_flows import server_for_flows
from kdmodels.experiment import Experiment, Teacher
from kdmodels.report import formats
from tasks import tracking
from tasks.references import Options
from tasks.register_model import ONNX, require_no_champion

KEPT = ("network", "key", "prefix", "normalise", "size")  # fields of the teacher that describe a checkpoint


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="An ONNX file, or a checkpoint of teacher.network."
        ),
    ],
    experiment: ExperimentName = None,
    model: Annotated[
        str | None, typer.Option("--as", metavar="MODEL", help="Registered model. Default: promote.model.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. teacher.network={mlp: [64]}."),
    ] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
) -> None:
    """Make your present model the champion that students must beat.

    The next `kd run` of the experiment compares its winner with this model on the test split. An ONNX file takes
    float32 images in [0, 1], with the classes of the data in alphabetical order.
    """
    with usage_errors():
        chosen = load_experiment(experiment, set_ or ()).allowing(allow_code or ())
        name = model or chosen.promote.model
        tracking.configure()
        tracking.require_name(name)
        require_no_champion(name)
        if file.suffix != ONNX:
            chosen = _with_checkpoint(chosen, file)
    folder = str(data_dir) if data_dir else None
    with mistakes_located(experiment or "", set_ or ()), server_for_flows():
        version = register(chosen, Options(data_dir=folder), str(file.absolute()), name)
    console.print_text(
        f"{version.model}: version {version.version} is the champion, {formats.percent(version.accuracy)} on "
        f"validation (run {version.run_id[:8]})"
    )
    print("next: kd run of the experiment compares its winner with this model on the test split", file=sys.stderr)


def _with_checkpoint(experiment: Experiment, file: Path) -> Experiment:
    """Return the experiment with a teacher that is loaded from the file."""
    fields = experiment.teacher.model_dump(include=set(KEPT), exclude_none=True)
    teacher = Teacher.model_validate({**fields, "checkpoint": str(file.absolute())})
    return experiment.model_copy(update={"teacher": teacher})
