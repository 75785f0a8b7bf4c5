"""docs/papers.md agrees with the committed results, which are no quick ones and have all claims."""

from pathlib import Path

import pytest

from kdmodels.papers import REPRODUCTIONS
from kdmodels.papers.claims import ReproductionResult, judge
from kdmodels.report.papers import claim_rows, document, read_results, table_rows

ROOT = Path(__file__).parents[3]
RESULTS = read_results(ROOT / "benchmarks" / "results" / "papers")


def test_the_page_is_that_of_make_docs() -> None:
    assert (ROOT / "docs" / "papers.md").read_text() == document(RESULTS)


@pytest.mark.parametrize("result", RESULTS, ids=[result.name for result in RESULTS])
def test_a_committed_result_has_the_claims_and_decisions_of_today(result: ReproductionResult) -> None:
    assert not result.quick
    claims = REPRODUCTIONS[result.name].claims
    assert [outcome.claim for outcome in result.outcomes] == list(claims)
    assert list(result.outcomes) == [judge(outcome.claim, outcome.values) for outcome in result.outcomes]
    assert all(len(outcome.values) in (0, result.seeds) for outcome in result.outcomes)


def test_a_reproduction_without_a_result_is_listed_as_not_run() -> None:
    text = document([])
    assert text.count("| 0 | not run |") == len(REPRODUCTIONS)
    assert "Not run. `kd reproduce hinton-mnist` takes" in text


def test_rows_have_the_mean_and_the_interval() -> None:
    (result,) = [result for result in RESULTS if result.name == "notes-gradient"]
    row = next(row for row in claim_rows(result) if row["range"] == "0.98 to 1.02")
    assert row["agreement"] == "agrees"
    assert " to " in row["ours"]
    assert [row["row"] for row in table_rows(result.tables[0])][:2] == ["T = 1", "T = 2"]
