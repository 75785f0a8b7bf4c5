"""Reading and running served files, without torch."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from kdmodels.serving.model_file import LARGEST_BATCH, ServedModel, read_file
from kdmodels.serving.refusal import RefusedError


def test_batches_of_any_size_give_the_logits_of_single_images(content: bytes) -> None:
    served = ServedModel(content, threads=1)
    images = np.random.default_rng(0).random((LARGEST_BATCH + 44, 3, 8, 8), dtype=np.float32)
    logits = served(images)
    assert served.input_shape == (3, 8, 8)
    assert served.classes == ["a", "b", "c"]
    assert logits.shape == (300, 3)
    assert logits.dtype == np.float32
    for at in (0, 1, 255, 256, 299):
        np.testing.assert_allclose(served(images[at : at + 1])[0], logits[at], atol=1e-5)


@pytest.mark.parametrize(("scale", "offset"), [(255, 0), (1, -0.5)])
def test_pixels_outside_of_0_to_1_are_reported(content: bytes, scale: float, offset: float) -> None:
    images = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    served = ServedModel(content, threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        served(images)
    message = rf"pixels from {offset:g} to {scale + offset:g}\. The model expects \[0, 1\]"
    with pytest.warns(UserWarning, match=message):
        served(images * np.float32(scale) + np.float32(offset))


def test_links_pipes_devices_and_large_files_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    assert read_file(file) == content
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "endless").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(2**40)
    for name, line in [
        ("link", "the file is a link"),
        ("endless", "the file is a link"),
        ("pipe", "not a regular file"),
        ("folder", "not a regular file"),
        ("sparse", "has 1099511627776 bytes"),
    ]:
        with pytest.raises(RefusedError, match=line):
            read_file(tmp_path / name)
    with pytest.raises(RefusedError, match="not a regular file"):
        read_file(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "absent")


def test_options_in_the_environment_do_not_come_from_a_file(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    assert ServedModel(content)(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 3)


WITHOUT_TORCH = """
import sys
import numpy as np
from pathlib import Path
from kdmodels.serving.model_file import ServedModel, read_file
from kdmodels.evaluation.costs import served_costs

served = ServedModel(read_file(Path(sys.argv[1])))
assert served(np.zeros((2, 3, 8, 8), np.float32)).shape == (2, 3)
assert served_costs([served])
assert not {"torch", "mlflow", "prefect"} & sys.modules.keys()
"""


def test_a_file_is_loaded_and_measured_without_torch(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, tmp_path / "model.onnx"], check=True, timeout=120)


def test_onnxruntime_sends_no_telemetry_and_writes_no_id(tmp_path: Path) -> None:
    names = ("CI", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY")  # the first suppresses telemetry by itself
    environment = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", "import kdmodels.serving.model_file"]
    subprocess.run(command, env=environment | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []
