"""Untrusted text is printed without controlling the terminal."""

from hypothesis import given
from hypothesis import strategies as st

from kdmodels.text import escaped


@given(st.text())
def test_escaped_text_is_printable_and_printable_text_is_unchanged(text: str) -> None:
    result = escaped(text)
    assert "\x1b" not in result
    assert len(result.splitlines()) <= 1
    if text.isprintable():
        assert result == text


def test_surrogates_and_the_direction_of_text_are_escaped() -> None:
    assert escaped("a\u202eb\udcff") == "a\\u202eb\\udcff"
    assert escaped("a\tb\n", keep="\n") == "a\\tb\n"
