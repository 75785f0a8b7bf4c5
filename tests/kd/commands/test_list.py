"""`kd list`: runs and experiments."""

import json
from pathlib import Path

import pytest

from tests.conftest import Here
from tests.kd.conftest import Done


def test_runs_are_listed_with_the_first_8_characters_of_their_ids(here: Here, second_run: Done) -> None:
    parent = json.loads(second_run.stdout)["parent_run_id"]
    assert parent in [run["run_id"] for run in json.loads(here("list", "--json", "--limit", "100")[1])]
    out = here("list", "--limit", "100")[1]
    assert parent[:8] in out
    assert parent not in out


def test_experiments_are_listed_with_their_champions(here: Here) -> None:
    experiments = {row["name"]: row for row in json.loads(here("list", "--experiments", "--json")[1])}
    assert experiments["small"]["champion"] == "small-student/1"
    assert experiments["digits"]["shipped"]


def test_an_empty_store_is_reported_in_words(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert here("list") == (0, "no runs yet. Start with: kd run digits\n", "")
