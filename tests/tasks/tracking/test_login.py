import os
import stat
from pathlib import Path

import pytest

from tasks.tracking import login

NAMES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in NAMES:
        monkeypatch.setenv(name, "")  # registers the undoing
        monkeypatch.delenv(name)


def credentials() -> tuple[str | None, ...]:
    return tuple(os.environ.get(name) for name in NAMES)


def test_a_running_server_on_this_machine_is_logged_in_to() -> None:
    with login.announced(5001, "secret"):
        login.use_announced("http://127.0.0.1:5001")
        assert credentials() == ("admin", "secret")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5002", "http://mlflow.example:5001", "sqlite:///x.db"])
def test_no_other_server_gets_the_password(uri: str) -> None:
    with login.announced(5001, "secret"):
        login.use_announced(uri)
    assert credentials() == (None, None)


def test_the_announcement_ends_with_the_block() -> None:
    with login.announced(5001, "secret"):
        pass
    login.use_announced("http://127.0.0.1:5001")
    assert credentials() == (None, None)


def test_the_users_own_login_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    with login.announced(5001, "secret"):
        login.use_announced("http://localhost:5001")
    assert credentials() == ("me", None)


def test_the_settings_of_a_server_are_private(tmp_path: Path) -> None:
    variables = login.settings(tmp_path, "secret")
    config = Path(variables["MLFLOW_AUTH_CONFIG_PATH"])
    assert f"database_uri = sqlite:///{tmp_path}/mlflow-login.db" in config.read_text()
    assert "secret" not in config.read_text()
    for file in (config, tmp_path / "mlflow-login.db"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
