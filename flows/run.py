"""`kd run`: the experiment that is asked for, its plan, and the flow with the server that it needs.

Nothing slow is imported before the experiment is known to be sound.
"""

import atexit
import contextlib
import gc
import logging
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.shared import ServerGoneError
from kdmodels.errors import UserError, allowed
from kdmodels.garbage import uncollected

if TYPE_CHECKING:
    from kdmodels.experiment import Experiment
    from tasks.references import Options, Outcome


def find_experiment(word: str | None, overrides: Sequence[str] = (), variants: str | None = None) -> "Experiment":
    """The experiment of that name or file, checked.

    Args:
        overrides: `key=value`. variants: names with commas between, which are kept; so is the control.
    Raises:
        UserError: there is no such experiment or variant, or the experiment is not sound.
    """
    from flows.experiments import find, shipped
    from kdmodels.experiment_file import read_experiment
    from kdmodels.objectives import CONTROL

    if word is None:
        raise UserError(f"which experiment? allowed: {', '.join(shipped())}, or a file; begin with: kd run digits")
    experiment = read_experiment(find(word), overrides)
    if variants is None:
        return experiment
    names = [variant.name for variant in experiment.variants]
    chosen = [CONTROL, *(name.strip() for name in variants.split(","))]
    for name in chosen:
        if name not in names:
            raise UserError(f"--variants: {name!r} is not a variant of {experiment.name}; {allowed(name, names)}")
    return with_variants(experiment, chosen)


def check_named(experiment: "Experiment", data_dir: str | None = None) -> None:
    """Look for the files and modules that an experiment names, before anything slow is imported.

    Raises:
        UsageError: one of them does not exist.
    """
    from kdmodels.data_fields import NAMED, PATHS
    from kdmodels.folders import find_path
    from kdmodels.own_code import named, require_found
    from kdmodels.recipe import WEIGHTS_FILES

    given = data_dir or os.environ.get("KD_DATA")
    folder = Path(given) if given else None
    data = experiment.data
    if data.source not in NAMED and ":" not in data.source:
        find_path(data.source, folder, "data.source", PATHS)
    if data.transfer:
        find_path(data.transfer.unlabelled, folder, "data.transfer.unlabelled", PATHS)
    for member in experiment.teacher.members:
        if member.checkpoint:
            find_path(member.checkpoint, folder, "teacher.checkpoint", WEIGHTS_FILES)
    for field, module in named(experiment):
        require_found(field, module)


def with_code(experiment: "Experiment", modules: Sequence[str]) -> "Experiment":
    """Return the experiment with these modules allowed too, which the command line names."""
    return experiment.model_copy(update={"allow_code": [*experiment.allow_code, *modules]})


def with_variants(experiment: "Experiment", names: Sequence[str]) -> "Experiment":
    """The experiment with these variants and their controls alone."""
    from kdmodels.experiment import Experiment
    from kdmodels.objectives import CONTROL

    controls = [experiment.control_of(variant).name for variant in experiment.variants if variant.name in names]
    chosen = {CONTROL, *names, *controls}
    raw = experiment.model_dump()
    raw["variants"] = [variant for variant in raw["variants"] if variant["name"] in chosen]
    raw["promote"]["report"] = [name for name in raw["promote"]["report"] if name in chosen]
    return Experiment.model_validate(raw)


def run(experiment: "Experiment", options: "Options", *, began: float, quiet: bool) -> "tuple[Outcome, bool]":
    """The flow's outcome, and whether some students failed.

    The server starts while torch is imported and, the first time, a published dataset decoded.

    Args:
        began: the monotonic time from which `seconds` counts `start` and `total`. quiet: without progress.
    Raises:
        UserError: what the flow says, or there is no Prefect server.
        ServerGoneError: there was one.
    """
    from flows.server import running_server

    if not os.environ.get("KD_DEBUG") and "PREFECT_LOGGING_LEVEL" not in os.environ:
        # A flow that fails is told in one line by the command; Prefect's server keeps the traceback.
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")  # it tells of what it sends in vain
        logging.raiseExceptions = False  # of logs too
    with running_server() as server:
        with uncollected():
            import httpx
            from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

            from flows import console, progress
            from flows.distill import StudentsFailedError, distill
            from kdmodels.data_fields import NAMED
            from tasks import tracking
            from tasks.data import prepare_data
            from tasks.runners import workers_for
            from tasks.student import prepare, prepare_if_new
            from tasks.workers import forked

            gc.freeze()  # nothing of it is ever garbage: looking through it takes a second each time
            atexit.register(gc.unfreeze)  # else a library complains at exit of what it finds alive
        # Now, for nothing is connected to a store or a server yet, and there is no second thread of Python's.
        ready = prepare if options.fresh else partial(prepare_if_new, experiment.name)
        with forked(workers_for(experiment.runner, len(experiment.variants)), ready) as workers:
            if not workers:
                tracking.configure()
            if server.process and experiment.data.source in NAMED and not server.ready():
                with contextlib.suppress(UserError):  # which the flow tells
                    prepare_data.fn(experiment.data, options.data_dir, options.quiet)  # decoded, it is kept
            tracking.configure()  # a worker has made a new store meanwhile
            server.wait_ready()
            start = time.monotonic() - began
            shown = progress.shown(console.console(stderr=True))
            # Nobody watches a temporary server for heartbeats, and their thread takes up to a second to end.
            settings = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None} if server.process else None)
            with settings, contextlib.nullcontext() if quiet else shown as on_running:
                flow = distill.with_options(on_running=[on_running]) if on_running else distill
                try:
                    outcome, failed = flow(experiment, options), False
                except StudentsFailedError as error:
                    outcome, failed = error.outcome, True
                except httpx.TransportError as error:  # of Prefect's client, which has tried for a minute
                    raise ServerGoneError(
                        f"no answer from the Prefect server at {server.url}; what is finished is kept, and the same "
                        "command goes on with the rest"
                    ) from error
    seconds = {"total": round(time.monotonic() - began, 3), "start": round(start, 3), **outcome.seconds}
    return outcome.model_copy(update={"seconds": seconds}), failed
