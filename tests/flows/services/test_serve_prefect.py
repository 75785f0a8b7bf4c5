"""The process of a Prefect server that kdflow starts."""

import tempfile
from pathlib import Path

import httpx
import pytest

from flows.services.prefect_server import Server, bind, start_server
from flows.services.processes import stop


@pytest.mark.fault
def test_the_server_migrates_a_private_database_and_asks_for_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with tempfile.TemporaryFile() as log:
        process, url = start_server(bind(0), "user:secret", ephemeral=True, log=log)
        try:
            Server(url, process, log).wait_ready()
            assert (tmp_path / "prefect.db").stat().st_mode & 0o777 == 0o600
            assert httpx.post(f"{url}/flows/filter", json={}).status_code == 401
            assert httpx.post(f"{url}/flows/filter", json={}, auth=("user", "secret")).json() == []
        finally:
            stop(process)
