"""The context manager that turns a user's mistake into a usage error."""

import pytest

from kd.exit_codes import usage_errors
from kdmodels.errors import UnavailableError, UsageError, UserError


def test_a_user_error_becomes_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no such run"), usage_errors():
        raise UserError("no such run")


@pytest.mark.parametrize("error", [UnavailableError("no answer"), ValueError("a bug")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, usage_errors():
        raise error
    assert raised.value is error
