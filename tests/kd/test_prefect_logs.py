"""Prefect's logs stay off the terminal, also if Prefect has already been imported."""

import os
import subprocess
import sys

import pytest

CODE = """
import {first}
from kd.prefect_logs import silence_prefect
silence_prefect()
from prefect import flow
from prefect.logging import get_logger
get_logger("flow_runs").error("a flow failed")
"""


@pytest.mark.parametrize("first", ["os", "prefect", "prefect.main"])
@pytest.mark.parametrize(
    ("settings", "shown"),
    [({}, False), ({"KD_DEBUG": "1"}, True), ({"PREFECT_LOGGING_LEVEL": "INFO"}, True)],
    ids=["default", "debug", "level"],
)
def test_logs_are_shown_only_if_the_user_asks(first: str, settings: dict[str, str], shown: bool) -> None:
    ours = ("KD_", "PREFECT_LOGGING_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, "-c", CODE.format(first=first)]
    done = subprocess.run(command, env=environment | settings, capture_output=True, text=True, check=True)
    assert ("a flow failed" in done.stdout + done.stderr) is shown
