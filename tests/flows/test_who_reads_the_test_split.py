"""No step before the promotion reads the test split."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.context import TaskRunContext

from flows.distill import distill
from flows.generate import generate
from kdmodels.data import Dataset, Split, load_dataset
from kdmodels.experiment import Data, Experiment, GeneratorExperiment
from tasks import tracking
from tests.conftest import SMALL

ROOT = Path(__file__).parents[2]
EXPERIMENT = SMALL | {
    "teacher": {"network": {"mlp": [16]}, "epochs": 2, "select": "best-validation"},
    "student": {"network": {"mlp": [8]}, "epochs": 2, "seeds": 2, "patience": 1, "select": "best-validation"},
}


GENERATED = {
    "name": "made",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "judge": {"network": {"mlp": [32]}, "epochs": 15, "optimizer": {"adam": {"lr": 0.01}}},
    "generator": {"vae": {"hidden": [64], "latent": 8}, "epochs": 18, "batch": 64, "lr": 0.01},
}
EVERY_RULE = {"report": ["kd"], "require": {"accuracy": ">= 0", "ece": "<= 1", "agreement": ">= 0"}}


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Return a list to which the task of each read of the test split is added."""
    readers: list[str | None] = []
    read = Dataset.read_test

    def record(data: Dataset) -> Split:
        context = TaskRunContext.get()
        readers.append(context.task.name if context else None)
        return read(data)

    monkeypatch.setattr(Dataset, "read_test", record)
    return readers


@pytest.mark.parametrize(
    "changes",
    [
        {"promote": EVERY_RULE},
        pytest.param({"data": {"source": "digits", "folds": 2}}, marks=pytest.mark.fault),
        pytest.param(
            {"teacher": [EXPERIMENT["teacher"], EXPERIMENT["teacher"]], "promote": EVERY_RULE}, marks=pytest.mark.fault
        ),
    ],
    ids=["one teacher", "folds", "an ensemble"],
)
def test_no_step_before_the_promotion_reads_the_test_split(
    new_store: Callable[[Path], str],
    tmp_path: Path,
    prefect_server: str,
    readers: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    outcome = distill(Experiment.model_validate(EXPERIMENT | changes))
    assert outcome.verdict.promoted
    assert readers == ["promote_student"]
    for student in outcome.students:
        assert not [name for name in student.metrics if name.startswith("test")]


def test_only_the_promotion_of_a_generator_reads_the_test_split(
    new_store: Callable[[Path], str],
    tmp_path: Path,
    prefect_server: str,
    readers: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    experiment = GeneratorExperiment.model_validate(GENERATED)
    outcome = generate(experiment)
    assert outcome.verdict.promoted
    assert readers == ["promote_generator"]
    assert tracking.get(outcome.parent_run_id).tags["kd.test_reads"] == "1"
    assert not [name for name in outcome.generator.metrics if name.startswith("test")]
    assert generate(experiment).verdict.already_champion
    assert readers == ["promote_generator"]


def test_the_test_split_is_not_an_attribute() -> None:
    with pytest.raises(RuntimeError, match="only promotion reads it"):
        load_dataset(Data(source="digits")).test  # noqa: B018


def test_only_one_function_reads_the_test_split() -> None:
    files = [file for part in ("kdmodels", "tasks", "flows", "kd") for file in (ROOT / part).rglob("*.py")]
    sources = {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}
    doors = {file for file, text in sources.items() if re.search(r"\.read_test\(", text)}
    behind = {file for file, text in sources.items() if re.search(r"\._test\b", text)}
    assert doors == {"tasks/held_out.py"}
    assert behind == {"kdmodels/data/dataset.py"}
