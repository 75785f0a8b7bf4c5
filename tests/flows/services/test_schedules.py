"""Checks of a schedule before it reaches Prefect. test_up.py creates, lists and deletes schedules on a real server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas import schedules as server_schedules

from flows.services.schedules import create_schedule
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Experiment
from kdmodels.experiment.experiment import CRON_IN_WORDS, is_cron

SMALL = Experiment.model_validate(
    {
        "name": "small",
        "data": "digits",
        "teacher": {"network": {"mlp": [16]}, "epochs": 1},
        "student": {"network": {"mlp": [8]}, "epochs": 1},
        "variants": ["hard-labels", "kd"],
    }
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cron": "0 3 * *"}, f"--cron: expected {CRON_IN_WORDS}, got '0 3 * *'"),
        (
            {"cron": "0 3 * * * *"},
            f"--cron: expected {CRON_IN_WORDS}, got '0 3 * * * *'",
        ),
        (
            {"cron": "0 25 * * *"},
            f"--cron: expected {CRON_IN_WORDS}, got '0 25 * * *'",
        ),
        ({"every": 10**15}, f"--every: expected whole seconds from 1 to 31622400, got {10**15}"),
        ({"every": 0}, "--every: expected whole seconds from 1 to 31622400, got 0"),
        (
            {"cron": "0 3 * * *", "timezone": "Mars"},
            "--timezone: expected a time zone, e.g. Europe/Berlin, got 'Mars'",
        ),
        (
            {"every": 5, "timezone": "Europe/Berlin"},
            "--timezone: allowed with --cron only, got Europe/Berlin with --every 5",
        ),
        ({"every": 5, "cron": "0 3 * * *"}, "a schedule needs one of --cron '0 3 * * *' and --every SECONDS"),
        ({}, "a schedule needs one of --cron '0 3 * * *' and --every SECONDS"),
    ],
)
def test_an_invalid_schedule_is_refused_before_anything_is_sent(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # no server answers there
    with pytest.raises(UserError) as error:
        create_schedule(SMALL, **arguments)
    assert str(error.value) == message


def test_a_client_cannot_allow_code_to_the_worker_of_another_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(
        UsageError, match=r"^--allow-code nets: allowed with kd up on this machine only\. .* KD_WORKER_CODE "
    ):
        create_schedule(SMALL, cron="0 3 * * *", allow_code=["nets"])


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/5 0-6,22 * JAN mon-fri", "5-1 * * * 7", "0/5 3 31 2 sun-mon"])
def test_prefect_accepts_the_cron_expressions_that_kdflow_accepts(cron: str) -> None:
    assert is_cron(cron)
    assert CronSchedule(cron=cron).cron == cron


@pytest.mark.parametrize("cron", ["@daily", "R 3 * * *", "0 3 1W * *", "0 3 L * *", "0 3 * * mon#1", "0 0 3 * * *"])
def test_forms_beyond_numbers_names_ranges_and_steps_are_refused(cron: str) -> None:
    assert not is_cron(cron)


@pytest.mark.parametrize("timezone", [None, "Europe/Berlin"])
def test_prefects_server_finds_the_times_of_a_cron_schedule(timezone: str | None) -> None:
    """With whenever 0.10, the server logged an error instead, and no cron schedule ever started a run."""
    schedule = server_schedules.CronSchedule(cron="0 3 * * *", timezone=timezone)
    assert [time.hour for time in asyncio.run(schedule.get_dates(2))] == [3, 3]


def test_the_address_of_a_webhook_is_not_stored_with_a_schedule() -> None:
    notify = {"on": ["failed"], "webhook": "https://hooks.example/topsecret"}
    experiment = Experiment.model_validate(SMALL.model_dump() | {"notify": notify})
    with pytest.raises(UsageError, match=r"^notify\.webhook: a schedule cannot hold an address, because ") as error:
        create_schedule(experiment, every=5)
    assert "topsecret" not in str(error.value)
