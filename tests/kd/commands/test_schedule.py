"""`kd schedule`: make, list, change and delete a schedule."""

from pathlib import Path

import pytest

from tests.conftest import Here


def test_a_schedule_is_made_listed_changed_and_deleted(here: Here) -> None:
    code, out, _ = here("schedule", "small.yaml", "--every", "3600")
    assert code == 0
    assert out.splitlines()[-1].split() == ["small", "3600", "yes"]
    assert here("schedule", "--list")[1] == out
    assert here("schedule", "--pause", "small") == (0, "", "paused the schedule of small\n")
    assert here("schedule", "--list")[1].splitlines()[-1].split() == ["small", "3600", "no"]
    assert here("schedule", "--resume", "small") == (0, "", "resumed the schedule of small\n")
    assert here("schedule", "--list")[1] == out
    code, _, error = here("schedule", "--run-now", "small")
    assert code == 0
    assert error.startswith("requested a run of small: ")
    assert here("schedule", "--delete", "small") == (0, "", "deleted the schedule of small\n")
    assert "small" not in here("schedule", "--list")[1]


@pytest.mark.parametrize("words", [[], ["small.yaml", "--list"], ["--pause", "small", "--resume", "small"]])
def test_nothing_or_two_things_at_once_are_refused(here: Here, words: list[str]) -> None:
    expected = "an experiment or a file, --list, --pause NAME, --resume NAME, --delete NAME, --run-now NAME"
    assert here("schedule", *words) == (2, "", f"kd: error: expected one of: {expected}\n")


@pytest.mark.parametrize("words", [["--list", "--timezone", "UTC"], ["--resume", "small", "--every", "60"]])
def test_options_of_a_new_schedule_are_refused_without_an_experiment(kd_here: Here, words: list[str]) -> None:
    expected = "--cron, --every, --timezone, --allow-code: allowed with an experiment or a file only"
    assert kd_here("schedule", *words) == (2, "", f"kd: error: {expected}\n")


@pytest.mark.parametrize("option", ["--pause", "--resume", "--delete", "--run-now"])
def test_an_unknown_name_is_refused(here: Here, option: str) -> None:
    code, _, error = here("schedule", option, "nothing")
    assert (code, error) == (2, "kd: error: no schedule 'nothing'. None exist\n")


def test_a_run_is_requested_only_while_kd_up_serves(
    kd_here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    expected = "kd: error: --run-now small: no kd up serves schedules. Start it with kd up --detach\n"
    assert kd_here("schedule", "--run-now", "small") == (1, "", expected)


def test_a_server_that_does_not_answer_gives_exit_code_1(kd_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert kd_here("schedule", "--list")[0] == 1
