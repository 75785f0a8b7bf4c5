"""`kd delete`: what it shows, what it asks, and mistakes in its arguments."""

import json

import pytest

from kd.commands import delete
from tasks import tracking
from tests.conftest import Here, Recorded


def test_what_depends_on_a_run_is_shown_and_nothing_is_deleted(recorded: Recorded, kd_here: Here) -> None:
    before = {run.run_id for run in tracking.every_run()}
    code, out, error = kd_here("delete", recorded.first, "--dry-run")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["run_id", "name", "kind", "experiment", "depends", "on"]
    assert [line.split()[:4] for line in lines if line.startswith(recorded.first[:8])] == [
        [recorded.first[:8], "small", "comparison", "small"]
    ]
    assert any(line.startswith("model small-student/") for line in lines)

    code, out, _ = kd_here("delete", recorded.first, "--dry-run", "--json")
    document = json.loads(out)
    assert (code, document["dry_run"]) == (0, True)
    needs = {row["run_id"]: row["needs"] for row in document["runs"]}
    assert needs[recorded.first] is None
    assert recorded.again in needs  # its control was trained by the first comparison
    assert {run.run_id for run in tracking.every_run()} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "RUN, --experiment: expected one of these"),
        (("kd", "--experiment", "small"), "RUN, --experiment: expected one of these"),
        (("kd", "--json"), "--json: kd delete cannot ask, so add --yes or --dry-run"),
        (("nothing",), "run 'nothing' is not in the tracking store"),
        (("--experiment", "smal"), "Did you mean 'small'?"),
        (("--experiment", "other", "--yes"), "registered models need these runs: other-student/1. To delete these"),
        (("--experiment", "small", "--yes"), "has not ended; `kd cancel` stops it"),
    ],
)
def test_a_mistake_deletes_nothing(recorded: Recorded, kd_here: Here, words: tuple[str, ...], message: str) -> None:
    before = {run.run_id for run in tracking.every_run()}
    code, _, error = kd_here("delete", *words)
    assert (code, message in error) == (2, True), error
    assert {run.run_id for run in tracking.every_run()} == before


def test_a_deletion_without_a_terminal_needs_yes(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 - read by nothing
    with pytest.raises(Exception, match="To delete without a question, add --yes"):
        delete.confirm(2)
