"""The Prefect worker of `kd up`: it runs kdflow's own flow and nothing else, whatever a deployment says."""

import asyncio
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.deployments import ENTRYPOINT, POOL
from flows.schedule_records import records_folder
from kdmodels.errors import UserError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse


class ScheduledRun(ProcessJobConfiguration):
    """A run of a schedule: command, environment and folder are this module's, not those of the API."""

    def prepare_for_flow_run(
        self, flow_run: "FlowRun", deployment: "DeploymentResponse | None" = None, *args: Any, **kwargs: Any
    ) -> None:
        """Replace whatever the work pool, the deployment and the flow run say of the process.

        Raises:
            UserError: the deployment is not one of `kd schedule`.
        """
        require_schedule(deployment)
        # -P: else the folder that the process starts in comes first in the search for modules. A command of our own
        # also keeps the process in the worker's process group: in a session of its own it would outlive the worker.
        self.command = shlex.join([sys.executable, "-P", "-m", "prefect.engine"])
        self.env = {}
        self.working_dir = records_folder()
        super().prepare_for_flow_run(flow_run, deployment, *args, **kwargs)


def require_schedule(deployment: "DeploymentResponse | None") -> None:
    """Require that a deployment runs kdflow's own flow, and no other code before that.

    Raises:
        UserError: the deployment names other code.
    """
    if deployment is None:
        raise UserError("this worker runs what `kd schedule` has made; a flow run without a deployment is refused")
    if deployment.entrypoint != ENTRYPOINT:
        raise UserError(f"entrypoint: {deployment.entrypoint}: this worker runs {ENTRYPOINT} only")
    if deployment.pull_steps:
        raise UserError("pull_steps: this worker runs none; make the schedule anew with kd schedule")


def main() -> None:
    """Run due flow runs, one at a time, until SIGINT or SIGTERM."""
    worker = ProcessWorker(POOL, limit=1, create_pool_if_not_found=False)  # torch uses every core for one run
    worker.job_configuration = ScheduledRun
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    asyncio.run(worker.start())


if __name__ == "__main__":
    main()
