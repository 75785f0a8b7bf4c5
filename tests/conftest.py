"""One real Prefect server, in a home of its own, for all tests that run a flow in this process."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from flows.server import running_server

# A shell that starts the tests in the background has them ignore SIGINT, and every command they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No deadline: how busy the machine is proves nothing. The same commit gives the same examples, so that a clone passes
# as this did; for new ones: pytest --hypothesis-profile=search
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's API address, which is also in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.delenv("PREFECT_PROFILE", raising=False)
        with running_server() as server:
            server.wait_ready()
            yield server.url
