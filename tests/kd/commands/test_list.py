"""`kd list`: runs and experiments."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kd.commands import list as kd_list
from kd.commands.list import parse_since
from tests.conftest import Here
from tests.kd.conftest import Done, Printed


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


def test_filters_and_the_order_choose_the_runs(here: Here) -> None:
    words = ("list", "--experiment", "small", "--kind", "student", "--status", "finished", "--since", "1d")
    code, out, error = here(*words, "--sort", "accuracy", "--json")
    assert code == 0, error
    students = json.loads(out)
    assert {run["kind"] for run in students} == {"student"}
    accuracies = [run["val/accuracy"] for run in students]
    assert accuracies == sorted(accuracies, reverse=True)
    assert json.loads(here(*words, "--sort", "accuracy", "--limit", "1", "--json")[1]) == students[:1]
    assert here("list", "--status", "failed") == (0, "no run meets these conditions\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--experiment", "smal"], "experiment 'smal' is not in the tracking store. Did you mean 'small'?"),
        (["--kind", "pupil"], "kind 'pupil' does not exist. Allowed: comparison, generation, teacher, student, "),
        (["--status", "done"], "status 'DONE' does not exist. Allowed: SCHEDULED, RUNNING, FINISHED, FAILED, KILLED"),
        (["--sort", "size"], "field 'size' does not exist. Allowed: started, accuracy, seconds, name"),
        (["--since", "7x"], "--since: expected a date or an age, got '7x'. Allowed: a date or time, e.g. 2026-11-30 "),
        (["--since", "2026-13-01"], "--since: expected a date or an age, got '2026-13-01'."),
        (["--experiments", "--kind", "student"], "--experiments: expected without --experiment, --kind, "),
    ],
)
def test_unknown_values_are_usage_errors(here: Here, words: list[str], message: str) -> None:
    code, out, error = here("list", *words)
    assert (code, out) == (2, "")
    assert message in error


def test_since_is_a_date_a_time_or_an_age() -> None:
    assert parse_since(None) is None
    assert parse_since("2026-11-30T18:00+00:00") == 1_000 * 1_796_061_600
    assert parse_since("2026-11-30") == 1_000 * datetime(2026, 11, 30).astimezone().timestamp()  # local midnight
    before = datetime.now(UTC).timestamp()
    week = parse_since("7d")
    assert week is not None
    assert 0 <= week / 1_000 + 7 * 86_400 - int(before) <= 60
    assert parse_since("99999w") == 0


def test_the_table_fits_into_80_columns(here: Here, printed: Printed) -> None:
    runs = json.loads(here("list", "--json")[1])
    assert {run["name"] for run in runs} >= {"hard-labels", "kd"}
    narrow, wide = printed(80, kd_list.command), printed(200, kd_list.command)
    assert narrow[0].split() == ["run_id", "name", "kind", "status", "started", "validation", "%"]
    assert " ".join(wide[0].split()) == "run_id name kind experiment status started seconds validation %"
    assert len(narrow) == len(wide) == len(runs) + 1  # no row takes two lines
    started = datetime.fromisoformat(runs[0]["started"]).astimezone()
    assert f"{started:%Y-%m-%d %H:%M}" in narrow[1]
    assert f"{100 * runs[0]['val/accuracy']:.2f}" in narrow[1]
