import os
import subprocess
import sys

SHOW = "import os; from tasks.tracking import environment; print(os.environ['MLFLOW_HTTP_REQUEST_MAX_RETRIES'])"


def shown(**variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-c", SHOW]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=True).stdout


def test_mlflow_gets_its_settings_and_the_users_own_values_win() -> None:
    assert shown() == "6\n"
    assert shown(MLFLOW_HTTP_REQUEST_MAX_RETRIES="2") == "2\n"


def test_telemetry_and_pickles_are_off() -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
