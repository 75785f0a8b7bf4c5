"""A folder with an experiment whose winner the gate refuses."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from kd import prefect_flows
from kd.exit_codes import REFUSED
from tests.conftest import SMALL, Here

STRICT = SMALL | {
    "variants": ["hard-labels"],
    "promote": {"require": {"accuracy": ">= 0.999", "parameters": "<= 610"}},
}
Refuse = Callable[..., str]


@pytest.fixture(scope="module")
def strict_folder(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Path]:
    """A folder with the experiment strict.yaml, and an empty store."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "strict.yaml").write_text(yaml.safe_dump(STRICT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(folder / "mlruns"))
        yield folder


@pytest.fixture
def strict_here(strict_folder: Path, monkeypatch: pytest.MonkeyPatch, kd_here: Here) -> Here:
    """`kd` in the process of the tests, in that folder."""
    monkeypatch.chdir(strict_folder)
    return kd_here


@pytest.fixture
def refuse(strict_here: Here) -> Refuse:
    """Run a comparison whose winner the gate refuses, and return the comparison's run id."""

    def refuse(model: str, epochs: int = 3) -> str:
        changes = ("--set", f"promote.model={model}", "--set", f"student.epochs={epochs}")
        code, out, error = strict_here("run", "strict.yaml", *changes, "--quiet", "--json", "--require-promotion")
        assert code == REFUSED, error
        run_id: str = json.loads(out)["parent_run_id"]
        return run_id

    return refuse


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test fail if a command starts a Prefect server."""
    monkeypatch.setattr(prefect_flows, "running_server", lambda: pytest.fail("a server was started"))
