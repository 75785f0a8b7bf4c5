"""`kd approve`: mistakes are reported before a server is started."""

import pytest

from kd.exit_codes import USAGE
from tests.conftest import Here, Recorded


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("approve", "small-student"), "model 'small-student': no version waits for a review"),
        (("approve", "small-studnt"), "Did you mean 'small-student'?"),
    ],
)
def test_a_mistake_is_reported_without_a_server(
    recorded: Recorded, kd_here: Here, words: tuple[str, ...], message: str
) -> None:
    code, out, error = kd_here(*words)
    assert (code, out) == (USAGE, "")
    assert message in error
