"""The start and the end of a comparison, and of every command that trains networks.

This module prepares the process, starts and ends the command's run in MLflow, and measures each stage.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from kdmodels.experiment import Experiment, GeneratorExperiment
from kdmodels.peak_memory import Phase, peak_memory
from tasks import tracking
from tasks import training_runs as runs
from tasks.cancellation import RunCancelledError, cancellable
from tasks.cross_validation import Fold, plan_folds
from tasks.execution import interruption
from tasks.execution.locks import PLANNING
from tasks.execution.team_locks import team_exclusive
from tasks.planning.keys import flatten, threads
from tasks.prepare_data import load
from tasks.references import DataReference, GeneratorPlan, Plan
from tasks.results import PLAN
from tasks.stored_data import is_needed, store_data
from tasks.tracking.tags import Tag
from tasks.ui import summaries
from tasks.ui.links import flow_run_url

AnyPlan = TypeVar("AnyPlan", Plan, GeneratorPlan)


@dataclass
class Stage:
    """A stage of a flow. If the code of the stage sets `result`, this text is logged when the stage ends."""

    result: str = ""


class Clock:
    """A clock that measures the seconds and the peak memory of each stage of a flow.

    If a stage runs several times, the seconds are added, and the highest peak memory is kept.

    >>> clock = Clock()
    >>> with clock("data"):
    ...     pass
    >>> list(clock.seconds)
    ['data']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phases: dict[str, Phase] = {}

    @property
    def metrics(self) -> dict[str, float]:
        """The duration and the peak memory of each stage that has ended, by metric name."""
        stages = [runs.stage_metrics(stage, seconds, self._phases[stage]) for stage, seconds in self.seconds.items()]
        return {name: value for figures in stages for name, value in figures.items()}

    @contextmanager
    def __call__(self, name: str) -> Iterator[Stage]:
        """Add the duration of the `with` block to the seconds of a stage. If the block sets `Stage.result`, log it."""
        began, stage = time.monotonic(), Stage()
        try:
            with peak_memory(self._phases.setdefault(name, Phase())):
                yield stage
        finally:
            seconds = time.monotonic() - began
            self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)
        if stage.result:
            get_run_logger().info(f"{name}: {stage.result} ({seconds:.1f} s)")


@contextmanager
def session(experiment: Experiment) -> Iterator[Clock]:
    """Prepare this process for a comparison, and provide a clock for the stages of the comparison.

    The preparation sets up the store and the threads, ends abandoned runs, and delays SIGTERM during writes.

    If the user has already requested a stop, the block does not start: KeyboardInterrupt is raised again, because
    Python may have dropped the first KeyboardInterrupt. When the block ends, the request is cleared, because the same
    process may run another flow.

    Raises:
        RunCancelledError: Somebody cancelled the comparison's run.
    """
    tracking.configure()
    tracking.end_abandoned(experiment.name)
    runs.use_threads(threads(experiment))
    try:
        interruption.check()
        alive = tracking.flow_run_alive(UUID(flow_run.id)) if flow_run.id else nullcontext()
        with interruption.deferrable_sigterm(), alive:
            yield Clock()
    except BaseException as error:
        if reason := interruption.reason():
            raise RunCancelledError(reason) from error
        raise
    finally:
        interruption.reset()


@contextmanager
def comparison(
    experiment: Experiment, splits: Sequence[DataReference], *, fresh: bool, clock: Clock
) -> Iterator[list[Fold]]:
    """Plan a comparison and start its run, see `planned_run`. Provide the cross-validation folds of the comparison.

    Args:
        splits: The data of each fold.
        fresh: Whether all networks are trained again, even if earlier runs could be reused.
        clock: The clock of the flow.
    """
    planned = partial(plan_folds, experiment, splits, fresh=fresh)
    with planned_run(clock, planned, partial(comparison_run, experiment, splits)) as (plan, parent):
        if is_needed(experiment) and any(step.action != "reuse" for step in plan.steps):
            for data in splits:
                store_data(load(data), parent)
        yield [
            Fold(experiment=experiment, data=data, plan=part, parent=parent)
            for data, part in zip(splits, (plan, *plan.folds), strict=True)
        ]


@contextmanager
def planned_run(
    clock: Clock, make_plan: Callable[[], AnyPlan], start: Callable[[AnyPlan], AbstractContextManager[str]]
) -> Iterator[tuple[AnyPlan, str]]:
    """Plan the training of a command's networks, and start the command's run. Provide the plan and the id of the run.

    The plan may reuse earlier runs. A lock prevents `kd gc` from deleting them until the new run records their ids.

    Args:
        clock: The clock of the flow. The seconds of planning are added to the stage "data".
        make_plan: A function that returns the plan.
        start: Returns a context manager that starts the run, provides its id, and later ends the run. See
            `command_run`.
    """
    with ExitStack() as planning:
        with clock("data"):
            planning.enter_context(team_exclusive(PLANNING))
            plan = make_plan()
        get_run_logger().info(f"plan: {summaries.plan(plan)}")
        with start(plan) as parent:
            planning.close()
            yield plan, parent


@contextmanager
def comparison_run(experiment: Experiment, splits: Sequence[DataReference], plan: Plan) -> Iterator[str]:
    """Start the run of a comparison, and provide its id. See `command_run`."""
    tags: dict[str, object] = {Tag.VIEWS: f"{plan.knowledge.action}: {plan.knowledge.reason}"} if plan.taught else {}
    params = flatten(experiment.model_dump(mode="json", exclude={"variants", "notify"}))
    with command_run("comparison", experiment, splits, plan, params=params, tags=tags) as parent:
        yield parent


@contextmanager
def command_run(
    kind: str,
    experiment: Experiment | GeneratorExperiment,
    splits: Sequence[DataReference],
    plan: Plan | GeneratorPlan,
    *,
    params: Mapping[str, object],
    tags: Mapping[str, object],
) -> Iterator[str]:
    """Start the run of a command, and provide its id. The runs of the command's networks are child runs of this run.

    When the block ends, the run is marked as finished, failed or interrupted. If the block raises an error, child runs
    that are still running are marked as interrupted. `kd cancel` can end the block.

    Args:
        kind: The kind of the run, one of `tracking.PARENTS`.
        splits: The data of each fold.
        params: The params of the run.
        tags: The tags of the run, in addition to the tags that every command sets.
    """
    url = flow_run_url()
    common: dict[str, object] = {**runs.origin(), Tag.DATA_DIR: splits[0].folder or ""}
    if url:
        common[Tag.PREFECT_URL] = url
    parent = tracking.start(experiment.name, experiment.name, kind, params=params, tags=common | dict(tags))
    with tracking.recording(parent):
        try:
            tracking.log_json(parent, "experiment.json", experiment.model_dump(mode="json"))
            tracking.log_json(parent, PLAN, plan.model_dump(mode="json"))
            indices = [load(data).indices for data in splits]
            tracking.log_json(parent, "splits.json", indices if experiment.data.folds else indices[0])
            tracking.log_text(parent, "notes.txt", "\n".join(plan.notes))
            tracking.log_text(parent, "skipped.txt", "\n".join(load(splits[0]).skipped))
            with cancellable(parent):
                yield parent
            if tracking.is_shared():  # runs of a lost machine, whose students other machines finished
                tracking.kill_running(parent)
        except BaseException as error:
            if not tracking.is_mute(error):
                tracking.kill_running(parent)
            raise
