"""Prefect settings from the environment and from profiles."""

import os
from pathlib import Path

import pytest

from flows.services.prefect_settings import (
    auth_file,
    auth_string,
    configured_url,
    environment_variables,
    prefect_home,
    setting,
)
from kdmodels.errors import UserError

PROFILES = """
active = "team"
[profiles.team]
PREFECT_API_URL = "http://team.example/api"
[profiles.other]
PREFECT_API_URL = "http://other.example/api"
"""


def test_the_environment_wins_over_the_active_profile(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured_url() is None
    (no_server / "profiles.toml").write_text(PROFILES)
    assert configured_url() == "http://team.example/api"
    monkeypatch.setenv("PREFECT_PROFILE", "other")
    assert configured_url() == "http://other.example/api"
    monkeypatch.setenv("PREFECT_API_URL", "http://mine.example/api")
    assert configured_url() == "http://mine.example/api"


@pytest.mark.parametrize("content", [b"active = team", b"\xff"])
def test_damaged_profiles_are_reported_with_their_file(no_server: Path, content: bytes) -> None:
    file = no_server / "profiles.toml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{file}: Prefect's profiles are not valid TOML: "):
        configured_url()
    file.unlink()  # Prefect reads the file when the fixture ends


def test_an_address_that_is_none_is_refused_without_its_secrets(
    no_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "ann:secret@team.example")
    with pytest.raises(UserError, match=r"^PREFECT_API_URL: .* allowed: http://HOST:PORT/api$") as error:
        configured_url()
    assert "secret" not in str(error.value)


def test_a_password_is_generated_only_if_the_user_has_set_none(
    no_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "ann:secret")
    assert auth_string() == "ann:secret"
    assert not auth_file().exists()
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING")
    assert auth_string() == f"kdflow:{auth_file().read_text()}"
    assert auth_string() == auth_string()


def test_environment_variables_are_restored(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:secret")
    with environment_variables({"PREFECT_API_AUTH_STRING": "kdflow:other", "PREFECT_API_URL": "http://x.example/api"}):
        assert setting("PREFECT_API_AUTH_STRING") == "kdflow:other"
        assert configured_url() == "http://x.example/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "ann:secret"
    assert "PREFECT_API_URL" not in os.environ


def test_prefects_home_is_that_of_the_environment(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prefect_home() == no_server
    monkeypatch.delenv("PREFECT_HOME")
    assert prefect_home() == Path.home() / ".prefect"
