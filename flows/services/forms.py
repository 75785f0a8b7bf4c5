"""The deployments with which people promote, approve, reject and roll back models from Prefect's UI.

`kd up` runs this module in a process of its own, because the flows import torch.
"""

from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.utilities.callables import parameter_schema

from flows.promote import promote
from flows.review import approve, reject
from flows.rollback import rollback
from flows.services.schedule_records import ScheduleRecord, write_record
from flows.services.work_pool import APPROVE, POOL, PROMOTE, REJECT, ROLLBACK

FORMS = ((promote, PROMOTE), (approve, APPROVE), (reject, REJECT), (rollback, ROLLBACK))
ALLOWED_CODE = "code"  # the parameter of `promote` that a run of a deployment must not use


def create_forms(client: SyncPrefectClient) -> None:
    """Create or update the deployments. Their runs use this process's working folder, and may run no user code."""
    for flow, entrypoint in FORMS:
        schema = parameter_schema(flow)
        schema.properties.pop(ALLOWED_CODE, None)
        deployment_id = client.create_deployment(
            client.create_flow(flow),
            flow.name,
            entrypoint=entrypoint,
            work_pool_name=POOL,
            parameter_openapi_schema=schema.model_dump(),
            enforce_parameter_schema=True,
            description=flow.description,
        )
        write_record(deployment_id, ScheduleRecord(folder=str(Path.cwd()), allow_code=[]))


def main() -> None:
    """Create the deployments on the server that PREFECT_API_URL names."""
    with get_client(sync_client=True) as client:
        create_forms(client)


if __name__ == "__main__":
    main()
