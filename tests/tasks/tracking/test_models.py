import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from torch import nn

from tasks import tracking

STRANGER = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("kdmodels", "tasks", "flows"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import mlflow
import numpy as np

model = mlflow.pyfunc.load_model(sys.argv[1])
images = np.load(sys.argv[2])
np.savez(sys.argv[3], *[model.predict(images[:n]) for n in (1, 2, 7)])
"""


@pytest.fixture
def module() -> nn.Module:
    """A network with all that export could get wrong: normalisation inside, dropout, running statistics."""
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
def test_a_model_serves_people_who_have_only_mlflow_and_torch(
    store: Path, tmp_path: Path, module: nn.Module, images: np.ndarray
) -> None:
    run = tracking.start("digits", "kd", "student")
    uri = tracking.log_model(run, module, images, metadata={"classes": [0, 1]})
    tracking.crown(tracking.register("digits-student", run, tags={}, description=""))

    for word in (uri, "models:/digits-student@champion"):
        np.testing.assert_allclose(tracking.load_predictor(word)(images), logits(module, images), atol=1e-5)

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
        env=os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        check=True,
        timeout=120,
    )
    with np.load(tmp_path / "out.npz") as out:
        for name, n in zip(out.files, (1, 2, 7), strict=True):
            np.testing.assert_allclose(out[name], logits(module, images[:n]), atol=1e-5)

    model = MlflowClient().get_logged_model(uri.removeprefix("models:/"))
    assert (model.name, model.source_run_id, str(model.status)) == ("model", run, "READY")
    folder = store / "artifacts" / "digits" / "models" / model.model_id / "artifacts"
    assert sorted((folder / "requirements.txt").read_text().split()) == [
        f"{package}=={version(package).split('+')[0]}" for package in ("mlflow", "numpy", "torch")
    ]
    described = yaml.safe_load((folder / "MLmodel").read_text())
    assert described["metadata"] == {"classes": [0, 1]}
    assert described["run_id"] == run
    assert described["flavors"]["python_function"]["config"] == {"device": "cpu"}
    assert json.loads(described["signature"]["inputs"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 8, 8]}}
    ]
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pth", ".pickle")]

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
                return np.array(json.load(response)["predictions"])
        except ConnectionError:
            pass
        except OSError as error:
            if not isinstance(getattr(error, "reason", None), ConnectionError):
                raise
        assert server.poll() is None, "the model server died"
        time.sleep(0.5)
    raise TimeoutError("the model server did not start")


def test_threads_may_store_and_load_models_at_once(store: Path, module: nn.Module, images: np.ndarray) -> None:
    expected = logits(module, images)

    def store_and_load(own: nn.Module) -> np.ndarray:
        uri = tracking.log_model(tracking.start("digits", "kd", "student"), own, images, metadata={})
        return tracking.load_predictor(uri)(images)

    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(store_and_load, [deepcopy(module) for _ in range(8)]):
            np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_a_module_that_would_be_frozen_wrongly_is_refused(store: Path, module: nn.Module, images: np.ndarray) -> None:
    run = tracking.start("digits", "kd", "student")
    with pytest.raises(ValueError, match="eval mode"):
        tracking.log_model(run, module.train(), images, metadata={})
    module.eval()
    for example in (images[:1], images.astype(np.float64), images[:, 0]):
        with pytest.raises(ValueError, match=r"float32 \(N >= 2, C, H, W\)"):
            tracking.log_model(run, module, example, metadata={})
    assert MlflowClient().get_run(run).outputs.model_outputs == []


class Undecided(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) if images.sum() > 0 else -images.flatten(1)  # a branch on data can't be exported


def test_a_failed_export_is_no_model_of_the_run(store: Path, images: np.ndarray) -> None:
    run = tracking.start("digits", "kd", "student")
    with pytest.raises(Exception, match="data-dependent"):
        tracking.log_model(run, Undecided().eval(), images, metadata={})
    assert MlflowClient().get_run(run).outputs.model_outputs == []
    (model,) = MlflowClient().search_logged_models([tracking.experiment_id("digits")])
    assert str(model.status) == "FAILED"
