"""Saved views of MLflow's runs table: their contents, and how many an experiment keeps."""

import json
from pathlib import Path

from mlflow import MlflowClient

from tasks import tracking
from tasks.tracking.saved_views import KEPT, MOST_RUNS

TAG = "mlflow.sharedViewState."


def views() -> dict[str, str]:
    tags = MlflowClient().get_experiment_by_name("digits").tags
    return {tag.removeprefix(TAG): value for tag, value in tags.items() if tag.startswith(TAG)}


def test_a_view_has_the_runs_and_the_columns_of_a_comparison(store: Path) -> None:
    parent = tracking.start("digits", "digits", "comparison")
    runs = [tracking.start("digits", name, "student") for name in ("kd", "hint", "other")]
    tracking.save_view(parent, "digits today", runs[:2], ["val/accuracy", "cost/flops"])
    view = json.loads(views()[parent])
    assert view["name"] == "digits today"
    state = json.loads(view["state"])
    found = MlflowClient().search_runs(["1"], state["searchFilter"])
    assert {run.info.run_id for run in found} == {*runs[:2]}
    columns = ["metrics.`val/accuracy`", "metrics.`cost/flops`"]
    assert (state["selectedColumns"], state["columnOrder"]) == (columns, columns)
    assert (state["orderByKey"], state["orderByAsc"]) == (columns[0], False)


def test_only_the_newest_views_are_kept(store: Path) -> None:
    parents = [tracking.start("digits", "digits", "comparison") for _ in range(KEPT + 2)]
    MlflowClient().set_experiment_tag("1", f"{TAG}somebody", "not a view of MLflow")
    for parent in parents:
        tracking.save_view(parent, "digits", ["a"], ["val/accuracy"])
    assert {*views()} == {*parents[-KEPT:]}


def test_a_view_of_very_many_runs_fits_into_a_tag(store: Path) -> None:
    parent = tracking.start("digits", "digits", "comparison")
    tracking.save_view(parent, "digits", [f"{number:032x}" for number in range(MOST_RUNS + 10)], ["val/accuracy"])
    assert json.loads(json.loads(views()[parent])["state"])["searchFilter"].count("'") == 2 * MOST_RUNS
