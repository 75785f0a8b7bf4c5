import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from packaging.requirements import Requirement
from torch import nn

from tasks import tracking
from tasks.tracking.models import log_model
from tasks.tracking.served import load_model
from tests.support.served import onnx_of

NAMES = list("0123456789")

STRANGER = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("kdmodels", "tasks", "flows", "torch"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import mlflow
import numpy as np

model = mlflow.pyfunc.load_model(sys.argv[1])
images = np.load(sys.argv[2])
np.savez(sys.argv[3], *[model.predict(images[:n])["logits"] for n in (1, 2, 7)])
"""


@pytest.fixture
def module() -> nn.Module:
    """Return a network with normalisation, dropout and running statistics, all of which an export could get wrong."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10)
    )
    network(torch.rand(32, 1, 8, 8))  # moves the running statistics
    return network.eval()


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((7, 1, 8, 8), dtype=np.float32)


def logits(module: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()


@pytest.mark.fault  # takes long
def test_a_model_runs_with_mlflow_and_onnxruntime_alone(
    store: Path, tmp_path: Path, module: nn.Module, images: np.ndarray
) -> None:
    run = tracking.start("digits", "kd", "student")
    content = onnx_of(module, (1, 8, 8), NAMES)
    uri = log_model(run, content, images)
    tracking.set_champion(tracking.register("digits-student", run, tags={}, description=""))

    for word in (uri, "models:/digits-student/1"):
        np.testing.assert_allclose(load_model(word)(images), logits(module, images), atol=1e-5)

    np.save(tmp_path / "images.npy", images)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(
        [
            sys.executable,
            "-c",
            STRANGER,
            "models:/digits-student@champion",
            tmp_path / "images.npy",
            tmp_path / "out.npz",
        ],
        cwd=elsewhere,
        check=True,
        timeout=120,
    )
    with np.load(tmp_path / "out.npz") as out:
        for name, n in zip(out.files, (1, 2, 7), strict=True):
            np.testing.assert_allclose(out[name], logits(module, images[:n]), atol=1e-5)

    model = MlflowClient().get_logged_model(uri.removeprefix("models:/"))
    assert (model.name, model.source_run_id, str(model.status)) == ("model", run, "READY")
    folder = store / "artifacts" / "digits" / "models" / model.model_id / "artifacts"
    assert (folder / "model.onnx").read_bytes() == content
    requirements = [Requirement(line) for line in (folder / "requirements.txt").read_text().split()]
    assert sorted(each.name for each in requirements) == ["mlflow", "numpy", "onnx", "onnxruntime"]
    for each in requirements:
        assert each.specifier.contains(version(each.name))
        assert {part.operator for part in each.specifier} == {">=", "<"}
    described = yaml.safe_load((folder / "MLmodel").read_text())
    assert json.loads(described["metadata"]["kd.classes"]) == NAMES
    assert described["run_id"] == run
    assert described["flavors"]["onnx"]["providers"] == ["CPUExecutionProvider"]
    assert json.loads(described["signature"]["inputs"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 8, 8]}}
    ]
    assert json.loads(described["signature"]["outputs"]) == [
        {"name": "logits", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 10]}}
    ]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "-p", str(port), "--env-manager", "local"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # mlflow starts uvicorn by its name
    with (
        (tmp_path / "serve.log").open("w") as log,
        subprocess.Popen(
            serve, cwd=elsewhere, env=os.environ | {"PATH": path}, stdout=log, stderr=log, start_new_session=True
        ) as server,
    ):
        try:
            answer = invoke(port, images, server)
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # mlflow alone would leave its uvicorn behind
    np.testing.assert_allclose(answer, logits(module, images), atol=1e-5)


def invoke(port: int, images: np.ndarray, server: subprocess.Popen[bytes]) -> np.ndarray:
    body = json.dumps({"inputs": images.tolist()}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    for _ in range(240):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return np.array(json.load(response)["predictions"]["logits"])
        except ConnectionError:
            pass
        except OSError as error:
            if not isinstance(getattr(error, "reason", None), ConnectionError):
                raise
        assert server.poll() is None, "the model server died"
        time.sleep(0.5)
    raise TimeoutError("the model server did not start")


def test_threads_can_store_and_load_models_at_once(store: Path, module: nn.Module, images: np.ndarray) -> None:
    expected, content = logits(module, images), onnx_of(module, (1, 8, 8))

    def store_and_load(_: int) -> np.ndarray:
        uri = log_model(tracking.start("digits", "kd", "student"), content, images)
        return load_model(uri)(images)

    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(store_and_load, range(8)):
            np.testing.assert_allclose(answer, expected, atol=1e-5)


RECORD = """
import sys
import numpy as np
from pathlib import Path
from tasks import tracking
from tasks.tracking.models import log_model
from tasks.tracking.served import load_model

tracking.configure()
content = Path(sys.argv[1]).read_bytes()
for _ in range(3):
    uri = log_model(tracking.start("digits", "kd", "student"), content, np.zeros((2, 1, 8, 8), np.float32))
    assert load_model(uri)(np.zeros((2, 1, 8, 8), np.float32)).shape == (2, 10)
"""


@pytest.mark.fault
def test_processes_can_store_models_at_once(store: Path, tmp_path: Path, module: nn.Module) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_of(module, (1, 8, 8)))
    command = [sys.executable, "-c", RECORD, str(tmp_path / "model.onnx")]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    models = MlflowClient().search_logged_models([tracking.experiment_id("digits")])
    assert [str(model.status) for model in models] == ["READY"] * 6


def test_a_run_has_one_model(store: Path, module: nn.Module, images: np.ndarray) -> None:
    run = tracking.start("digits", "kd", "student")
    content = onnx_of(module, (1, 8, 8))
    assert log_model(run, content, images) == log_model(run, content, images)
    assert len(MlflowClient().search_logged_models([tracking.experiment_id("digits")])) == 1


def test_an_example_of_another_shape_is_refused(store: Path, module: nn.Module, images: np.ndarray) -> None:
    run = tracking.start("digits", "kd", "student")
    content = onnx_of(module, (1, 8, 8))
    for example in (images.astype(np.float64), images[:, 0], images[:, :, :4]):
        with pytest.raises(ValueError, match=r"float32 \(N, 1, 8, 8\)"):
            log_model(run, content, example)
    assert MlflowClient().get_run(run).outputs.model_outputs == []


def test_an_incomplete_model_does_not_count(
    store: Path, module: nn.Module, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracking.start("digits", "kd", "student")
    content = onnx_of(module, (1, 8, 8))

    def full(self: MlflowClient, model_id: str, path: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", full)
        with pytest.raises(OSError, match="No space left"):
            log_model(run, content, images)
    assert MlflowClient().get_run(run).outputs.model_outputs == []
    (model,) = MlflowClient().search_logged_models([tracking.experiment_id("digits")])
    assert str(model.status) == "FAILED"
    assert load_model(log_model(run, content, images))(images).shape == (7, 10)
