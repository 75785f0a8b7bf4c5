"""The adapter of Prefect's client in a process with and without Prefect."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from flows.services.prefect_internals.client import refresh_settings, send_queued_logs_and_events

WITHOUT_PREFECT = """
import sys
from flows.services.prefect_internals.client import refresh_settings, send_queued_logs_and_events
refresh_settings()
send_queued_logs_and_events(1)
print("prefect" in sys.modules)
"""


def test_settings_are_read_again(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://other.example/api")
    assert get_current_settings().api.url != "http://other.example/api"
    refresh_settings()
    assert get_current_settings().api.url == "http://other.example/api", (
        "Prefect's refresh_global_settings_context no longer reads the environment: "
        "adapt flows/services/prefect_internals/client.py"
    )


def test_empty_queues_are_sent_at_once() -> None:
    send_queued_logs_and_events(1)


def test_prefect_is_not_imported() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PREFECT], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
