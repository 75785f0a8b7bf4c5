"""The flows of `kd approve` and `kd reject`. They decide on a promotion that is waiting for approval."""

from datetime import UTC, datetime

from prefect import flow
from prefect.logging import get_run_logger

from flows.run_names import review_run
from tasks import tracking
from tasks.execution.team_locks import team_exclusive


@flow(flow_run_name=review_run)
def approve(model: str, by: str, reason: str = "") -> tracking.Version:
    """Approve the version of a model that waits for approval. The version becomes the champion.

    Args:
        model: Name of a registered model.
        by: Name of the person who approves the promotion. The name is recorded with the version.
        reason: Reason for the approval. The reason is recorded with the version.

    Raises:
        UserError: No version of the model waits for approval, or the champion was replaced after the version had been
            compared with it.
    """
    return _review(model, "approved", by, reason)


@flow(flow_run_name=review_run)
def reject(model: str, by: str, reason: str) -> tracking.Version:
    """Reject the version of a model that waits for approval. The champion stays.

    Args:
        model: Name of a registered model.
        by: Name of the person who rejects the promotion. The name is recorded with the version.
        reason: Reason for the rejection. The reason is recorded with the version.

    Raises:
        UserError: No version of the model waits for approval.
    """
    return _review(model, "rejected", by, reason)


def _review(model: str, decision: tracking.Decision, by: str, reason: str) -> tracking.Version:
    tracking.configure()
    with team_exclusive(f"model {model}"):
        waiting = tracking.require_pending(model, decision)
        version = tracking.record_review(waiting, decision, by=by, reason=reason, now=datetime.now(UTC))
    get_run_logger().info(f"version {version.version} of {model} is {decision} by {by}")
    return version
