"""`kd reproduce`: the table of claims, the list, and mistakes that need no server."""

import json
from pathlib import Path

import pytest

from kdmodels.papers import REPRODUCTIONS
from kdmodels.papers.claims import ReproductionResult
from tests.conftest import Here


@pytest.fixture(autouse=True)
def store(strict_folder: Path) -> None:
    """Use the store of that folder, which has no reproduction at first."""


def test_a_reproduction_is_run_listed_and_written(strict_here: Here, tmp_path: Path) -> None:
    code, out, error = strict_here("reproduce", "--list")
    assert (code, error) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(REPRODUCTIONS)
    assert out.count(" none") == len(REPRODUCTIONS)

    code, out, error = strict_here("reproduce", "notes-gradient", "--seeds", "2", "--output", str(tmp_path))
    assert (code, error) == (0, "notes-gradient: starting\n")
    assert "0.98 to 1.02" in out
    assert "result    5 agree\n" in out
    written = ReproductionResult.model_validate_json((tmp_path / "notes-gradient.json").read_text())
    assert (written.seeds, written.quick) == (2, False)

    code, out, _ = strict_here("reproduce", "--list", "--json")
    lines = {line["name"]: line for line in json.loads(out)}
    assert (lines["notes-gradient"]["last_seeds"], lines["notes-gradient"]["last_result"]) == (2, "5 agree")
    assert lines["hinton-mnist"]["last_result"] is None


def test_one_seed_of_a_quick_run_decides_nothing(strict_here: Here) -> None:
    code, out, _ = strict_here("reproduce", "notes-gradient", "--quick", "--json")
    document = json.loads(out)
    assert (code, document["seeds"], document["quick"]) == (0, 1, True)
    assert {outcome["agreement"] for outcome in document["outcomes"]} == {"undecided"}
    assert "5 are undecided, in a reduced test run" in strict_here("reproduce", "notes-gradient", "--quick")[1]


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which reproduction? Allowed: notes-gradient, hinton-mnist,"),
        (("hinton",), "hinton: unknown reproduction. Did you mean 'hinton-mnist'?"),
        (("notes-gradient", "--seeds", "0"), "Invalid value for '--seeds': Input should be greater than or equal to 1"),
    ],
)
def test_a_mistake_is_reported_without_a_server(strict_here: Here, words: tuple[str, ...], message: str) -> None:
    code, out, error = strict_here("reproduce", *words)
    assert (code, out) == (2, "")
    assert message in error
