"""Numbers as the tables print them, at their limits."""

import pytest

from kdmodels.report import formats


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (99.96, "100"), (100, "100"), (0.0004999, "0.0005"), (1_234_567, "1,234,567")]
)
def test_an_amount_has_three_digits_or_all_of_a_whole_number(value: float, text: str) -> None:
    assert formats.amount(value) == text


def test_a_p_value_of_one_in_a_thousand_is_written_out() -> None:
    assert (formats.p_value(0.001), formats.p_value(0.00099)) == ("0.001", "< 0.001")


def test_a_difference_has_a_sign_and_its_interval_only_a_minus() -> None:
    assert formats.difference(0.0, -0.01, 0.01) == "+0.00 (-1.00 to 1.00)"
