"""write_report: write the HTML report of a comparison, and store it with the comparison's run."""

from collections.abc import Mapping

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from kdmodels.errors import redacted
from kdmodels.report.report import description, html
from tasks import tracking
from tasks.report_contents import read_contents
from tasks.results import REPORT, SECONDS


@task(task_run_name="write_report", cache_policy=NO_CACHE)
def write_report(parent: str, seconds: Mapping[str, float]) -> bool:
    """Write the report of a comparison, and describe the comparison's run in MLflow.

    A report that can't be written does not make the comparison fail. The failure is logged as a warning.

    Args:
        parent: The id of the comparison's run. The run has a leaderboard.
        seconds: The duration of each stage of the comparison. They are logged as metrics.

    Returns:
        Whether the report was written.
    """
    tracking.configure()
    try:
        tracking.log_metrics(parent, [(f"{SECONDS}{stage}", value, 0) for stage, value in seconds.items()])
        contents = read_contents(tracking.get(parent))
        tracking.log_text(parent, REPORT, html(contents))
        tracking.describe(parent, description(contents, tracking.artifact_link(parent, REPORT)))
    except Exception as error:
        get_run_logger().warning(redacted(f"the report was not written: {type(error).__name__}: {error}"))
        return False
    return True
