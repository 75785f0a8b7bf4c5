"""The Prefect work pool from which the worker of `kd up` takes flow runs."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

POOL = "kdflow"
ENTRYPOINT, GENERATE = "flows.distill.distill", "flows.generate.generate"
SCHEDULED = (ENTRYPOINT, GENERATE)  # the flows of scheduled runs
PROMOTE, ROLLBACK = "flows.promote.promote", "flows.rollback.rollback"
APPROVE, REJECT = "flows.review.approve", "flows.review.reject"
ENTRYPOINTS = (*SCHEDULED, PROMOTE, APPROVE, REJECT, ROLLBACK)  # the only flows that the worker runs


def prepare_pool(client: SyncPrefectClient) -> None:
    """Create the work pool. If the work pool exists, reset its job template."""
    template = ProcessWorker.get_default_base_job_template()
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
