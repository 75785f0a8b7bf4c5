"""Files and modules that an experiment names must exist before anything slow is imported."""

from pathlib import Path
from typing import Any

import pytest

from kdmodels.errors import UsageError
from kdmodels.experiment import Experiment
from kdmodels.experiment.named_files import require_files
from tests.conftest import SMALL


def experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate(SMALL | changes)


def test_an_experiment_without_files_is_accepted() -> None:
    require_files(experiment())
    require_files(experiment(data={"source": "digits", "labelled": 100, "transfer": {"unlabelled": "rest"}}))


def test_paths_are_also_looked_up_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    photos = experiment(data={"source": "./photos"})
    require_files(photos, str(tmp_path))
    monkeypatch.setenv("KD_DATA", str(tmp_path))
    require_files(photos)
    monkeypatch.delenv("KD_DATA")
    with pytest.raises(UsageError, match=r"^data\.source: \./photos: .*photos does not exist"):
        require_files(photos)


@pytest.mark.parametrize(("changes", "field"), [
    ({"data": {"source": "digits", "transfer": {"unlabelled": "./missing"}}}, "data.transfer.unlabelled"),
    ({"teacher": {"checkpoint": "missing.pt", "network": {"mlp": [8]}}}, "teacher.checkpoint"),
    ({"data": "./missing.py:load"}, "data.source"),
    ({"teacher": SMALL["teacher"] | {"data": {"source": "./missing"}}}, "teacher.data.source"),
    ({"teacher": SMALL["teacher"] | {"data": "missing_module:load"}}, "teacher.data.source"),
    ({"student": SMALL["student"] | {"network": "missing_module:Net"}}, "student.network.module"),
])  # fmt: skip
def test_the_field_of_a_missing_file_or_module_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as error:
        require_files(experiment(**changes))
    assert str(error.value).startswith(f"{field}: ")
