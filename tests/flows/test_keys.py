"""When a finished run is reused, and when it is not: the keys of real runs in a real store."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.distill import Options, Outcome, distill, plan_only
from kdmodels.experiment import Experiment
from tasks.references import Plan

SMALL: dict[str, Any] = {
    "name": "keys",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "teacher": {"network": {"mlp": [8]}, "epochs": 1},
    "student": {"network": {"mlp": [4]}, "epochs": 1, "seeds": 1},
    "variants": ["hard-labels"],
}
NET = (
    "from torch import nn\n\nfrom keyed_helper import width\n\n\ndef net(classes):\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width()), nn.ReLU(), nn.Linear(width(), classes))\n"
)


@pytest.fixture(scope="module", autouse=True)
def store(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        yield


def run(**changes: Any) -> Outcome:
    return distill(Experiment.model_validate(SMALL | changes))


def planned(**changes: Any) -> Plan:
    return plan_only(Experiment.model_validate(SMALL | changes), Options())


def test_a_helper_module_that_changes_trains_anew_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of before was reused: only the file of its own class was looked at."""
    (tmp_path / "keyed_nets.py").write_text(NET)
    helper = tmp_path / "keyed_helper.py"
    helper.write_text("def width():\n    return 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    own = SMALL["student"] | {"network": "keyed_nets:net"}
    run(student=own)
    assert [step.action for step in planned(student=own).students] == ["reuse"]
    helper.write_text("def width():\n    return 6\n")
    (step,) = planned(student=own).students
    assert (step.action, step.reason) == ("train", "keyed_helper changed")
