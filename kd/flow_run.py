"""Functions that run the `distill` flow for `kd run`, and functions that print the flow's plan or outcome."""

import atexit
import contextlib
import gc
import sys
import time
from dataclasses import dataclass
from functools import partial

from prefect.exceptions import CancelledRun

from flows.distill import StudentsFailedError, distill, plan_only
from flows.services.prefect_server import Server
from kd import console, outcome, plan, progress
from kd.exit_codes import DONE, REFUSED, STUDENTS_FAILED
from kd.prefect_flows import flow_calls
from kdmodels.errors import CancelledError, UserError
from kdmodels.experiment import Experiment
from kdmodels.experiment.data import NAMED
from tasks import results, tracking
from tasks.execution.runners import runner_of, workers_for
from tasks.execution.workers import forked_workers
from tasks.mlflow_pages import addresses
from tasks.prepare_data import prepare_data
from tasks.references import Options, Outcome
from tasks.train_student import prepare, prepare_if_new


@dataclass(frozen=True)
class Finished:
    """The result of a flow run.

    Attributes:
        outcome: The teacher, the students, and the decision about the promotion.
        students_failed: Whether at least one student failed.
    """

    outcome: Outcome
    students_failed: bool


def show_plan(experiment: Experiment, options: Options, *, as_json: bool) -> int:
    """Print the planned actions of a run and the reason for each action. Return the exit code."""
    planned = plan_only(experiment, options)
    if as_json:
        console.print_json(planned.model_dump())
    else:
        plan.print_plan(planned)
    return DONE


def run(experiment: Experiment, options: Options, server: Server, *, start_time: float) -> Finished:
    """Run the flow on a Prefect server that is still starting.

    To save start-up time, workers are forked and data is prepared while the server starts.

    Args:
        start_time: Time at which the command started, as returned by `time.monotonic`. The outcome's durations `start`
            and `total` are measured from this time.

    Raises:
        CancelledError: Somebody cancelled the run.
        UserError: The flow raised a `UserError`, or the server stopped answering.
    """
    gc.freeze()  # imported modules are never garbage, and the garbage collector takes a second to scan them
    atexit.register(gc.unfreeze)  # otherwise, a library reports at exit that objects still exist
    with contextlib.redirect_stdout(sys.stderr):
        # Fork first, while this process has no connection to a store or a server, and no second Python thread.
        initialise = prepare if options.fresh else partial(prepare_if_new, experiment.name)
        most_workers = workers_for(runner_of(experiment), len(experiment.variants))
        with forked_workers(most_workers, initialise) as workers:
            if not workers:
                tracking.configure()
            if server.process and experiment.data.source in NAMED and not server.ready():
                with contextlib.suppress(UserError):  # the flow reports the same error later
                    prepare_data.fn(experiment.data, options.data_dir, options.quiet)  # caches the data for the flow
            tracking.configure()  # by now a worker has created the store
            server.wait_ready()
            start_seconds = time.monotonic() - start_time
            finished = _run_flow(experiment, options, server)
    total = time.monotonic() - start_time
    seconds = {"total": round(total, 3), "start": round(start_seconds, 3), **finished.outcome.seconds}
    return Finished(finished.outcome.model_copy(update={"seconds": seconds}), finished.students_failed)


def _run_flow(experiment: Experiment, options: Options, server: Server) -> Finished:
    shown = progress.shown(console.console(stderr=True))
    with flow_calls(server), contextlib.nullcontext() if options.quiet else shown as on_running:
        flow = distill.with_options(on_running=[on_running]) if on_running else distill
        try:
            return Finished(flow(experiment, options), students_failed=False)
        except StudentsFailedError as error:
            return Finished(error.outcome, students_failed=True)
        except CancelledRun as error:
            raise CancelledError(str(error)) from error


def show_outcome(finished: Finished, *, as_json: bool, details: bool, require_promotion: bool) -> int:
    """Print the outcome of a run. Return the exit code."""
    if as_json:
        console.print_json(finished.outcome.model_dump())
    else:
        correctness = results.correctness(tracking.get(finished.outcome.parent_run_id))
        outcome.print_outcome(finished.outcome, correctness, details=details)
        for page, address in addresses(finished.outcome.parent_run_id, finished.outcome.students).items():
            console.print_entry(page, address)
    if finished.students_failed:
        return STUDENTS_FAILED
    return REFUSED if require_promotion and not finished.outcome.verdict.accepted else DONE
