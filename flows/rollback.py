"""The flow of `kd rollback`. It makes an earlier champion of a model the champion again."""

from prefect import flow
from prefect.logging import get_run_logger

from flows.run_names import rollback_run
from tasks import tracking
from tasks.execution.team_locks import team_exclusive


@flow(flow_run_name=rollback_run)
def rollback(model: str, to: int | None = None) -> tracking.Version:
    """Make an earlier version of a model the champion again.

    Args:
        model: Name of a registered model.
        to: Number of the version. Default: the previous champion.

    Raises:
        UserError: The model or the version does not exist, the version is already the champion, or there is no previous
            champion.
    """
    tracking.configure()
    with team_exclusive(f"model {model}"):
        version = tracking.rollback(model, to)
    get_run_logger().info(f"version {version.version} of {model} is the champion again")
    return version
