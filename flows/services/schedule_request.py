"""A function that carries out a request of `kd schedule`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flows.experiments import find, load_any_experiment
from flows.services.deployments import (
    ScheduledExperiment,
    delete_schedule,
    list_schedules,
    pause_schedule,
    resume_schedule,
    run_now,
)
from flows.services.schedules import create_schedule
from kdmodels.errors import UsageError

CHANGES: dict[str, Callable[[str], str]] = {
    "--pause": pause_schedule,
    "--resume": resume_schedule,
    "--delete": delete_schedule,
    "--run-now": run_now,
}


@dataclass(frozen=True)
class ScheduleRequest:
    """The options of `kd schedule`.

    Attributes:
        file: Name of a shipped experiment, or path of an experiment file. The options `cron`, `every`, `timezone` and
            `allow_code` need an experiment.
        allow_code: Modules, packages and files whose code the runs are allowed to use.
        list_all: Whether to list the schedules.
        changes: The name of a schedule for each option in `CHANGES`, e.g. `--pause`. `None` if the option is not given.
    """

    file: str | None = None
    cron: str | None = None
    every: int | None = None
    timezone: str | None = None
    allow_code: tuple[str, ...] = ()
    list_all: bool = False
    changes: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class ScheduleAnswer:
    """The schedules to show, or one line that says what was done."""

    schedules: list[ScheduledExperiment]
    message: str | None = None


def carry_out(request: ScheduleRequest) -> ScheduleAnswer:
    """Create, list or change schedules.

    Raises:
        UsageError: The request contains no action or several actions, or sets options of a new schedule without an
            experiment.
        UserError: The experiment or the schedule is invalid, or no schedule has the given name.
    """
    changes = [(option, name) for option, name in request.changes.items() if name is not None]
    if (request.file is not None) + request.list_all + len(changes) != 1:
        options = ", ".join(f"{option} NAME" for option in CHANGES)
        raise UsageError(f"expected one of: an experiment or a file, --list, {options}")
    if request.file is None and (request.cron or request.every or request.timezone or request.allow_code):
        raise UsageError("--cron, --every, --timezone, --allow-code: allowed with an experiment or a file only")
    if changes:
        (option, name), *_ = changes
        return ScheduleAnswer([], CHANGES[option](name))
    if request.file is None:
        return ScheduleAnswer(list_schedules())
    schedule = create_schedule(
        load_any_experiment(request.file).allowing(request.allow_code),
        cron=request.cron,
        every=request.every,
        timezone=request.timezone,
        allow_code=request.allow_code,
        file=find(request.file),
    )
    return ScheduleAnswer([schedule])
