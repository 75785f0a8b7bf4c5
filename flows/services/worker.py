"""The Prefect worker of `kd up`. It runs only the flows of `ENTRYPOINTS`, even if a deployment names other code."""

import abc
import asyncio
import os
import shlex
import sys
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.services.children import start_module
from flows.services.missed_runs import skip_missed_runs
from flows.services.processes import stop
from flows.services.schedule_records import records_folder
from flows.services.work_pool import ENTRYPOINTS, POOL
from kdmodels.errors import UserError

TASK_LOGS = "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL"


class ScheduledRun(ProcessJobConfiguration):
    """The process of a flow run. Prefect's API cannot set the command, environment or folder of the process."""

    def prepare_for_flow_run(
        self, flow_run: FlowRun, deployment: DeploymentResponse | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Replace the process settings that come from the work pool, the deployment and the flow run.

        Because of the flag -P, Python does not search the process's start folder for modules. Otherwise, a user's
        `flows` or `tasks` package could shadow kdflow's package.

        An explicit command also keeps the process in the worker's process group. With Prefect's default command, the
        process would get its own session and outlive the worker.

        The log of the flow run shows the lines of the flow, and only warnings of its tasks.

        Raises:
            UserError: The deployment runs code other than a flow of kdflow.
        """
        require_own_flow(deployment)
        self.command = shlex.join([sys.executable, "-P", "-m", "prefect.engine"])
        self.env = {TASK_LOGS: os.environ.get(TASK_LOGS, "WARNING")}
        self.working_dir = records_folder()
        super().prepare_for_flow_run(flow_run, deployment, *args, **kwargs)


def require_own_flow(deployment: DeploymentResponse | None) -> None:
    """Require that a deployment runs a flow of kdflow, and runs no other code before the flow.

    Raises:
        UserError: The deployment names other code, or there is no deployment.
    """
    if deployment is None:
        raise UserError("deployment: expected one of kdflow, got a flow run without a deployment")
    if deployment.entrypoint not in ENTRYPOINTS:
        raise UserError(f"entrypoint: {deployment.entrypoint}: this worker runs {', '.join(ENTRYPOINTS)} only")
    if deployment.pull_steps:
        raise UserError("pull_steps: this worker runs no pull steps; create the schedule again with kd schedule")


# The base class `abc.ABC` keeps Prefect from registering this class as the worker of every process pool.
class ScheduleWorker(ProcessWorker, abc.ABC):
    """A process worker that runs only the newest of several missed runs of a schedule."""

    job_configuration = ScheduledRun

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Skip missed runs, then start due runs. Prefect calls this method every few seconds."""
        await skip_missed_runs(self.client)
        return await super().get_and_submit_flow_runs()


def main() -> None:
    """Run due flow runs, one at a time, until SIGINT or SIGTERM.

    Another process creates the deployments whose forms start promotions and rollbacks from Prefect's UI.
    """
    forms = start_module(["flows.services.forms"])
    worker = ScheduleWorker(POOL, limit=1, create_pool_if_not_found=False)  # one run uses all cores
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    try:
        asyncio.run(worker.start())
    finally:
        stop(forms)


if __name__ == "__main__":
    main()
