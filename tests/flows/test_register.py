"""`kd register`: a model from elsewhere is the champion that the first student has to beat."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from flows.distill import distill
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.tracking.served import load_model
from tests.conftest import SMALL, Here

pytestmark = pytest.mark.usefixtures("module_store")


def experiment(model: str) -> dict[str, Any]:
    return SMALL | {"student": SMALL["student"] | {"seeds": 1}, "promote": {"model": model}}


@pytest.fixture
def production(tmp_path: Path) -> Path:
    """An ONNX file with a logistic regression by scikit-learn."""
    digits = load_digits()
    fitted = LogisticRegression(max_iter=200).fit(digits.data[:300] / 16, digits.target[:300])
    arrays = {"w": fitted.coef_.T, "b": fitted.intercept_}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    nodes = [helper.make_node("Flatten", ["x"], ["f"], axis=1), helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "regression", [image], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    file = tmp_path / "production.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def test_an_onnx_file_is_the_champion_to_beat(production: Path, tmp_path: Path, kd_here: Here) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment("served")))
    code, out, error = kd_here("register", str(production), str(tmp_path / "mine.yaml"))
    assert code == 0, error
    assert out.startswith("served: version 1 is the champion, ")
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    assert (load_model("models:/served/1")(images).argmax(axis=1) == digits.target).mean() > 0.8

    outcome = distill(Experiment.model_validate(experiment("served")))  # its students are weaker
    assert not outcome.verdict.promoted
    assert "the champion, version 1" in outcome.verdict.reason
    assert tracking.find_model("served").version == 1
    code, out, error = kd_here("register", str(production), str(tmp_path / "mine.yaml"))
    assert (code, out) == (2, "")
    assert "version 1 is the champion already. Allowed: a model without a champion" in error


def test_a_checkpoint_is_loaded_into_its_network(tmp_path: Path, kd_here: Here) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment("loaded")))
    outcome = distill(Experiment.model_validate(experiment("other")))
    (weights,) = tracking.artifact(outcome.teacher.run_id, "network").glob("*.safetensors")
    code, out, error = kd_here("register", str(weights), str(tmp_path / "mine.yaml"), "--as", "loaded")
    assert code == 0, error
    assert out.startswith("loaded: version 1 is the champion, ")
    images = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)
    (before,) = (load_model(uri) for uri in [f"models:/{tracking.contents.model_id(outcome.teacher.run_id)}"])
    np.testing.assert_allclose(load_model("models:/loaded/1")(images), before(images), atol=1e-5)
    wrong = ("--as", "wrong", "--set", "teacher.network={mlp: [9]}")
    code, _, error = kd_here("register", str(weights), str(tmp_path / "mine.yaml"), *wrong)
    assert code == 1
    assert "the weights do not fit the network" in error
