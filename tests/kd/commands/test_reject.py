"""`kd reject`: mistakes are reported before a server is started."""

import pytest

from kd.exit_codes import USAGE
from tests.conftest import Here, Recorded


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("reject", "small-student", "--reason", "slow"), "model 'small-student': no version waits for a review"),
        (("reject", "small-studnt", "--reason", "slow"), "Did you mean 'small-student'?"),
        (("reject", "small-student"), "Missing option '--reason'"),
    ],
)
def test_a_mistake_is_reported_without_a_server(
    recorded: Recorded, kd_here: Here, words: tuple[str, ...], message: str
) -> None:
    code, out, error = kd_here(*words)
    assert (code, out) == (USAGE, "")
    assert message in error
