from pathlib import Path

import numpy as np
import pytest
import torch

from kdmodels.errors import UserError
from tasks import tracking
from tasks.served_models import members_of, run_model
from tasks.tracking.models import log_model
from tests.support.served import onnx_of


def test_a_run_without_a_model_is_a_clear_error(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student")
    with pytest.raises(UserError, match=f"^run {run_id[:8]} has no ONNX model; .*: kd promote {run_id[:8]}$"):
        run_model(run_id)


def test_the_stored_model_of_a_run_is_loaded(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    images = np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32)
    log_model(run_id, onnx_of(network, (1, 8, 8), ["a", "b", "c"]), images)
    logits = run_model(run_id, threads=1)(images)
    np.testing.assert_allclose(logits, network(torch.from_numpy(images)).detach().numpy(), atol=1e-6)


def test_the_networks_of_an_ensemble_are_in_its_members(store: Path) -> None:
    single = tracking.start("digits", "teacher-1", "teacher")
    ensemble = tracking.start("digits", "teacher", "teacher", tags={"kd.members": '["one", "two"]'})
    assert members_of(single) == [single]
    assert members_of(ensemble) == ["one", "two"]
