"""Functions that create schedules. A schedule is a Prefect deployment that `kd up` serves."""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.distill import distill
from flows.generate import generate
from flows.services.deployments import ScheduledExperiment, schedule_client, scheduled_experiment
from flows.services.prefect_settings import configured_url
from flows.services.schedule_records import ScheduleRecord, write_record
from flows.services.up_state import up_state
from flows.services.work_pool import ENTRYPOINT, GENERATE, POOL, prepare_pool
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import GeneratorExperiment, user_code
from kdmodels.experiment.experiment import CRON_IN_WORDS, LONGEST_INTERVAL, Experiment, is_cron, is_timezone
from kdmodels.experiment.notify import require_storable
from tasks.references import Options

# A run that is due while another run of the experiment is in progress waits, and is never lost. The strategy CANCEL_NEW
# would cancel the run, even if the slot is only held by a run that crashed minutes ago.
ONE_AT_A_TIME = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)


def create_schedule(
    experiment: Experiment | GeneratorExperiment,
    *,
    cron: str | None = None,
    every: int | None = None,
    timezone: str | None = None,
    allow_code: Sequence[str] = (),
    file: Path | None = None,
) -> ScheduledExperiment:
    """Schedule an experiment. `kd up` on this machine, or the worker of another Prefect server, runs the experiment.

    A new schedule replaces the earlier schedule of the experiment. `kd up` runs the experiment in the current working
    folder. If Prefect is configured for another server, the worker of that server uses its own folder, data and list of
    allowed code.

    Args:
        experiment: Experiment to run. If neither `cron` nor `every` is given, the field `schedule` of the experiment
            applies. The file of a generator has no such field.
        cron: Cron expression with the fields minute, hour, day of month, month and day of week.
        every: Seconds between the starts of two runs.
        timezone: Time zone of `cron`. Default: UTC.
        allow_code: Modules, packages and files whose code the runs are allowed to use. The runs cannot use other code,
            even if a user later changes the runs' parameters.
        file: The experiment's file. Later changes of the file are reported, but do not affect the runs.

    Raises:
        UserError: The schedule is invalid.
        UsageError: The experiment names code that is not allowed, or contains the address of a webhook. Or `allow_code`
            is given although the worker of another server runs the experiment.
    """
    flow: Flow[..., Any] = distill
    if isinstance(experiment, GeneratorExperiment):
        flow, entrypoint, named = generate, GENERATE, experiment.of_judge
    else:
        entrypoint, named = ENTRYPOINT, experiment
        if cron is None and every is None and experiment.schedule:
            cron, every = experiment.schedule.cron, experiment.schedule.every
            timezone = timezone or experiment.schedule.timezone
        require_storable(experiment.notify)
    interval, runs_here = _interval(cron, every, timezone), _runs_here()
    allowed_code = [os.path.abspath(name) if name.endswith(".py") else name for name in allow_code]
    if runs_here:
        user_code.require_all_allowed(named, ",".join(allowed_code))
    elif allow_code:
        raise UsageError(
            f"--allow-code {allow_code[0]}: allowed with kd up on this machine only. The variable KD_WORKER_CODE of "
            "the server's worker lists the code that its runs may use"
        )
    folder = os.environ.get("KD_DATA") if runs_here else None
    options = Options(data_dir=folder and str(Path(folder).absolute()))
    with schedule_client() as client:
        prepare_pool(client)
        deployment_id = client.create_deployment(
            client.create_flow(flow),
            experiment.name,
            schedules=[DeploymentScheduleCreate(schedule=interval, active=True)],
            parameters={"experiment": experiment.model_dump(mode="json"), "options": options.model_dump(mode="json")},
            entrypoint=entrypoint,
            work_pool_name=POOL,
            parameter_openapi_schema=parameter_schema(flow).model_dump(),
            enforce_parameter_schema=True,
            paused=False,  # creating a paused schedule again resumes it
            concurrency_limit=1,
            concurrency_options=ONE_AT_A_TIME,
            description=flow.description,
        )
        if runs_here:
            record = ScheduleRecord(folder=str(Path.cwd()), allow_code=allowed_code)
            write_record(deployment_id, record.of_file(file))
        return scheduled_experiment(client.read_deployment_by_name(f"{flow.name}/{experiment.name}"))


def _interval(cron: str | None, every: int | None, timezone: str | None) -> CronSchedule | IntervalSchedule:
    if (cron is None) == (every is None):
        raise UserError("a schedule needs one of --cron '0 3 * * *' and --every SECONDS")
    if every is not None and not 1 <= every <= LONGEST_INTERVAL:
        raise UserError(f"--every: expected whole seconds from 1 to {LONGEST_INTERVAL}, got {every}")
    bad_cron = UserError(f"--cron: expected {CRON_IN_WORDS}, got {cron!r}")
    if cron is not None and not is_cron(cron):
        raise bad_cron
    if timezone and every:
        raise UserError(f"--timezone: allowed with --cron only, got {timezone} with --every {every}")
    if timezone is not None and not is_timezone(timezone):
        raise UserError(f"--timezone: expected a time zone, e.g. Europe/Berlin, got {timezone!r}")
    if every is not None:
        return IntervalSchedule(interval=timedelta(seconds=every))
    try:
        return CronSchedule(cron=cron or "", timezone=timezone)
    except ValidationError as error:
        raise bad_cron from error


def _runs_here() -> bool:
    """Return whether `kd up` on this machine runs the schedules, and not the worker of another server."""
    url = configured_url()
    return url is None or ((state := up_state()) is not None and state.url == url)
