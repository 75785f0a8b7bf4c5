"""Saved views of MLflow's runs table. Each comparison saves one view, which shows its runs with chosen columns.

Saved views are tags of the experiment. Each request for the experiment returns all its tags, so only the newest views
are kept.
"""

from collections.abc import Sequence

from mlflow import MlflowClient

from tasks.tracking.lookup import runs_with
from tasks.tracking.mlflow_internals import SAVED_VIEW, saved_view, saved_view_time

KEPT = 20  # maximum number of saved views of an experiment
MOST_RUNS = 100  # maximum number of runs in a view, so that the tag is not too long


def save_view(run_id: str, title: str, run_ids: Sequence[str], metrics: Sequence[str]) -> None:
    """Save the view of a comparison, and delete the oldest views of the experiment. `saved_view_link` opens the view.

    Args:
        run_id: Id of the comparison's run.
        title: Title of the view.
        run_ids: Runs to show. Only the first `MOST_RUNS` are shown.
        metrics: Metrics to show as columns. The runs are sorted by the first metric, the largest value first.
    """
    client = MlflowClient()
    info = client.get_run(run_id).info
    columns = [f"metrics.`{metric}`" for metric in metrics]
    shown = runs_with(run_ids[:MOST_RUNS])
    view = saved_view(title, info.start_time, filter_string=shown, order_by=columns[0], columns=columns)
    client.set_experiment_tag(info.experiment_id, f"{SAVED_VIEW}{run_id}", view)
    tags = client.get_experiment(info.experiment_id).tags
    views = {tag: saved_view_time(value) for tag, value in tags.items() if tag.startswith(SAVED_VIEW)}
    for tag in sorted(views, key=lambda tag: -views[tag])[KEPT:]:
        client.delete_experiment_tag(info.experiment_id, tag)
