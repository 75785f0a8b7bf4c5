"""Nothing that chooses sees the test split."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.context import TaskRunContext

from flows.distill import distill
from kdmodels.data import Dataset, Split
from kdmodels.experiment import Experiment

ROOT = Path(__file__).parents[2]
SMALL = {
    "name": "small",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "teacher": {"network": {"mlp": [16]}, "epochs": 2, "select": "best-validation"},
    "student": {"network": {"mlp": [8]}, "epochs": 2, "seeds": 2, "patience": 1, "select": "best-validation"},
    "variants": ["hard-labels", "kd"],
}


def test_no_step_before_the_promotion_reads_the_test_split(
    new_store: Callable[[Path], str], tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    readers: list[str | None] = []
    read = Dataset.read_test

    def told(data: Dataset) -> Split:
        context = TaskRunContext.get()
        readers.append(context.task.name if context else None)
        return read(data)

    monkeypatch.setattr(Dataset, "read_test", told)
    outcome = distill(Experiment.model_validate(SMALL))
    assert readers == ["promote_student"]
    for student in outcome.students:
        assert not [name for name in student.metrics if name.startswith("test")]


def test_there_is_one_door_to_it() -> None:
    files = [file for part in ("kdmodels", "tasks", "flows") for file in (ROOT / part).rglob("*.py")]
    sources = {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}
    doors = {file for file, text in sources.items() if re.search(r"\.read_test\(", text)}
    behind = {file for file, text in sources.items() if re.search(r"\._test\b", text)}
    assert doors == {"tasks/promotion.py"}
    assert behind == {"kdmodels/data/dataset.py"}
