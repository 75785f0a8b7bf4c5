"""A refusal quotes one short line of another library's error."""

from kdmodels.serving.refusal import first_line


def test_only_the_first_line_is_quoted() -> None:
    assert first_line(ValueError("\n  a wrong shape\nTraceback: ...")) == "a wrong shape"


def test_a_long_line_is_cut() -> None:
    assert first_line(ValueError("x" * 10_000)) == "x" * 200


def test_an_error_without_a_message_is_named_by_its_type() -> None:
    assert first_line(MemoryError()) == "MemoryError"
