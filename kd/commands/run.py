"""The command `kd run`. It compares loss variants and promotes the best student, or trains a generator.

A loss variant is a combination of losses with which a student is trained.

This module imports no slow library at its top, so a mistake in the experiment file is reported within a second.

The module `kd.flow_run` imports torch, Prefect and MLflow. The function `command` starts the Prefect server first and
imports `kd.flow_run` afterwards, so that the server starts while torch is imported. No other command has imports inside
a function.
"""

import sys
import time
from typing import Annotated

import typer

from flows.experiments import load_any_experiment, load_experiment, mistakes_located
from flows.services.prefect_server import running_server
from kd.exit_codes import usage_errors
from kd.options import AllowCode, DataDir, Details, ExperimentName, Json
from kd.prefect_logs import silence_prefect
from kdmodels.errors import UserError
from kdmodels.experiment import GeneratorExperiment
from kdmodels.experiment.generator import judge_named
from kdmodels.experiment.named_files import require_files
from kdmodels.garbage_collection import gc_paused
from tasks.references import Options

START_TIME = time.monotonic()


def complete_variant(context: typer.Context, incomplete: str) -> list[str]:
    """Return the completions of a comma-separated list of variants. Only the last name is completed."""
    chosen, comma, last = incomplete.rpartition(",")
    experiment = next(iter(context.args), None)  # typer has not parsed the arguments yet
    try:
        names = [variant.name for variant in load_experiment(experiment).variants]
    except UserError:  # when the command runs, it reports the error
        return []
    return [chosen + comma + name for name in names if name.startswith(last)]


def command(  # noqa: PLR0913 - one parameter per option
    experiment: ExperimentName = None,
    variants: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Compare these variants and the control only.", autocompletion=complete_variant
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. student.epochs=5."),
    ] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train everything again. Reuse no finished run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its reasons. Train nothing.")] = False,
    require_promotion: Annotated[
        bool, typer.Option("--require-promotion", help="Exit with code 4 if the gate refuses.")
    ] = False,
    details: Details = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not show progress.")] = False,
) -> int:
    """Compare loss variants and promote the best, or train a generator."""
    with usage_errors():
        chosen = load_any_experiment(experiment, set_ or (), variants).allowing(allow_code or ())
    folder = str(data_dir) if data_dir else None
    options = Options(fresh=fresh, data_dir=folder, quiet=quiet)
    assert experiment is not None, "load_any_experiment() refuses None"
    with mistakes_located(experiment, set_ or ()):
        if isinstance(chosen, GeneratorExperiment):
            with judge_named():
                require_files(chosen.of_judge, folder)
            from kd import generator_run  # noqa: PLC0415 - slow to import

            if dry_run:
                return generator_run.show_plan(chosen, options, as_json=as_json)
            return generator_run.run(chosen, options, as_json=as_json, require_promotion=require_promotion)
        require_files(chosen, folder)
        if dry_run:
            from kd import flow_run  # noqa: PLC0415 - slow to import

            return flow_run.show_plan(chosen, options, as_json=as_json)
        if not quiet:
            counts = f"{_counted(len(chosen.variants), 'variant')}, {_counted(chosen.student.seeds, 'seed')}"
            print(f"{chosen.name}: {counts} each; starting", file=sys.stderr)
        silence_prefect()
        with running_server() as server:
            with gc_paused():
                from kd import flow_run  # noqa: PLC0415 - slow to import. Meanwhile the server starts
            finished = flow_run.run(chosen, options, server, start_time=START_TIME)
    return flow_run.show_outcome(finished, as_json=as_json, details=details, require_promotion=require_promotion)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
