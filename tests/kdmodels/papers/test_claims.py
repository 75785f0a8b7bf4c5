"""The decision about a claim, against the rule in words."""

import pytest
from scipy import stats

from kdmodels.papers.claims import Agreement, Claim, judge

CLAIM = Claim(name="errors", text="Test errors", published="67", source="Hinton", low=50, high=80)


@pytest.mark.parametrize(
    ("values", "agreement"),
    [
        ([64, 66, 65], Agreement.AGREES),
        ([100, 101, 102], Agreement.DISAGREES),
        ([10, 11, 12], Agreement.DISAGREES),
        ([60, 80], Agreement.UNDECIDED),  # the interval is wider than the range
        ([79, 80, 81, 82], Agreement.UNDECIDED),
        ([65], Agreement.UNDECIDED),
        ([65, 65], Agreement.UNDECIDED),
        ([], Agreement.NOT_RUN),
    ],
)
def test_the_whole_interval_decides(values: list[float], agreement: Agreement) -> None:
    assert judge(CLAIM, values).agreement == agreement


def test_the_interval_is_that_of_scipy() -> None:
    outcome = judge(CLAIM, [60, 64, 71])
    expected = stats.t.interval(0.95, 2, loc=65, scale=stats.sem([60, 64, 71]))
    assert outcome.mean == 65
    assert outcome.interval == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(None, 80), (50, None), (50, 80)])
@pytest.mark.parametrize("value", [0, 60, 200])
def test_a_missing_end_excludes_nothing(low: float | None, high: float | None, value: float) -> None:
    claim = CLAIM.model_copy(update={"low": low, "high": high})
    is_inside = not (low and value < low) and not (high and value > high)
    expected = Agreement.AGREES if is_inside else Agreement.DISAGREES
    assert judge(claim, [value, value + 0.01, value + 0.02]).agreement == expected
