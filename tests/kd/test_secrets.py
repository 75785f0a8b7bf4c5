"""No command prints the secrets in an address, with or without a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.services.prefect_settings import configured_url
from kdmodels.errors import UserError, redacted
from tests.conftest import Here
from tests.kdmodels.test_redaction import CANARY, FORMS, NEW

KD = Path(sys.executable).with_name("kd")
ADDRESSES = [
    address.replace("ml.example:5000", "127.0.0.1:1")
    .replace("ml.example", "127.0.0.1")
    .replace("db.example", "127.0.0.1")
    for address in [*FORMS, *NEW]
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_unusable_store_is_reported_without_its_secrets(
    address: str, kd_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "KD_DEBUG"):
        monkeypatch.setenv(name, "")  # the command sets these variables
    for debug in ([], ["--debug"]):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        code, out, err = kd_here(*debug, "list")
        assert code == 1
        assert "kd: error: " in err
        assert ("Traceback" in err) == bool(debug)
        assert CANARY not in out + err


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_unusable_prefect_server_is_reported_without_its_secrets(
    address: str, kd_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_DEBUG", "")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", address)
    for words in (["up"], ["--debug", "up"]):
        code, out, err = kd_here(*words)
        assert code == 1
        assert "PREFECT_API_URL" in err
        assert CANARY not in out + err


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_prefect_server_of_a_profile_is_reported_without_its_secrets(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment variables do not contain the secret in this case."""
    (tmp_path / "profiles.toml").write_text(
        f'active = "own"\n[profiles.own]\nPREFECT_API_URL = {json.dumps(address)}\n'
    )
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    if address.startswith(("http://", "https://")):
        assert configured_url() == address
        assert CANARY not in redacted(f"no Prefect server answers at {address}, which the profile names")
        return
    with pytest.raises(UserError, match="is not the address of a server") as error:
        configured_url()
    assert CANARY not in str(error.value)


@pytest.mark.fault
@pytest.mark.parametrize("address", [address for address in ADDRESSES if " " in address or address.startswith("ann")])
def test_a_real_process_prints_no_secrets(address: str, tmp_path: Path) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        own = os.environ | {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": "", variable: address}
        words = ["--debug", "list"] if variable == "MLFLOW_TRACKING_URI" else ["--debug", "doctor"]
        done = subprocess.run([KD, *words], cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert CANARY not in done.stdout + done.stderr
