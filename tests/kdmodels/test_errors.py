"""Errors: their kinds, and the sentence that says what is allowed."""

import pytest

from kdmodels.errors import DivergedError, UnavailableError, UsageError, UserError, allowed


def test_every_error_of_a_user_is_a_user_error() -> None:
    assert all(issubclass(kind, UserError) for kind in (DivergedError, UnavailableError, UsageError))


@pytest.mark.parametrize(("name", "sentence"), [
    ("digit", "Did you mean 'digits'? Allowed: digits, mnist"),
    ("photos", "Allowed: digits, mnist"),
])  # fmt: skip
def test_the_nearest_choice_is_suggested(name: str, sentence: str) -> None:
    assert allowed(name, ["digits", "mnist"]) == sentence
