"""A Prefect server that stops answering while a flow runs is reported as such."""

import httpx
import pytest

from flows.services.prefect_server import Server
from kd.prefect_flows import flow_calls
from kdmodels.errors import UnavailableError


def test_a_server_that_stops_answering_is_named() -> None:
    with (
        pytest.raises(UnavailableError, match=r"^no answer from the Prefect server at http://127\.0\.0\.1:9/api\. "),
        flow_calls(Server("http://127.0.0.1:9/api")),
    ):
        raise httpx.ConnectError("refused")


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="another"), flow_calls(Server("http://127.0.0.1:9/api")):
        raise ValueError("another")
