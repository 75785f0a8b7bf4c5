"""write_report, update_report: write the HTML report of a comparison, and show the comparison in the MLflow UI."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from kdmodels.errors import redacted
from kdmodels.report.contents import Contents
from kdmodels.report.report import html
from tasks import tracking
from tasks.cross_validation import Fold
from tasks.mlflow_pages import show_comparison, show_students
from tasks.references import LeaderboardReference
from tasks.report_contents import read_contents
from tasks.results import REPORT
from tasks.validation_outputs import record_predictions


@task(task_run_name="write_report", cache_policy=NO_CACHE)
def write_report(leaderboard: LeaderboardReference, fold: Fold, figures: Mapping[str, float]) -> bool:
    """Write the report of a comparison, and describe the runs of the comparison and of its students in MLflow.

    A report that can't be written does not make the comparison fail. The failure is logged as a warning.

    Args:
        leaderboard: The leaderboard, which is recorded with the comparison's run.
        fold: The first cross-validation fold of the comparison.
        figures: The duration and the peak memory of each stage of the comparison, by metric name.

    Returns:
        Whether the report was written.
    """
    tracking.configure()
    parent = leaderboard.parent_run_id
    with _failure_as_warning("the predictions were not recorded"):
        record_predictions(leaderboard, fold)
    with _failure_as_warning("the report was not written"):
        tracking.log_metrics(parent, [(name, value, 0) for name, value in figures.items()])
        contents = _write(parent)
        with _failure_as_warning("the students were not described"):
            show_students(contents, leaderboard.students)
        return True
    return False


@task(task_run_name="update_report", cache_policy=NO_CACHE)
def update_report(parent: str) -> bool:
    """Write the report of an earlier comparison again, after a new verdict. A failure is logged as a warning.

    Args:
        parent: The id of the comparison's run.

    Returns:
        Whether the report was written.
    """
    tracking.configure()
    with _failure_as_warning("the report was not updated"):
        _write(parent)
        return True
    return False


def _write(parent: str) -> Contents:
    contents = read_contents(tracking.get(parent))
    tracking.log_text(parent, REPORT, html(contents))
    with _failure_as_warning("the comparison was not described"):
        show_comparison(contents)
    return contents


@contextmanager
def _failure_as_warning(consequence: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        get_run_logger().warning(redacted(f"{consequence}: {type(error).__name__}: {error}"))
