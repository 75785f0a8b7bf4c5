"""The plan of an experiment."""

from pathlib import Path

import pytest
import torch

from kdmodels.errors import UserError
from tasks.planning.plan import make_plan
from tasks.references import DataReference
from tests.tasks.planning.conftest import small_experiment


def test_every_checkpoint_of_an_ensemble_is_read_before_any_teacher_trains(data: DataReference, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "wrong.pt")
    wrong = {"network": {"mlp": [8]}, "checkpoint": str(tmp_path / "wrong.pt")}
    experiment = small_experiment("kd", teacher=[{"network": {"mlp": [8]}, "epochs": 1}, wrong])
    with pytest.raises(UserError, match=r"wrong\.pt: the weights do not fit the network: 4 missing: block1"):
        make_plan(experiment, data.model_copy(update={"examples": {"taught": 9, "validation": 1}}))
