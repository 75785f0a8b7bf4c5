"""Published datasets, read from small files in their original formats."""

import bz2
import contextlib
import gzip
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from kdmodels.data import load_dataset
from kdmodels.data.published import SETS
from kdmodels.errors import UserError
from kdmodels.experiment import Data
from kdmodels.experiment.data import TORCHVISION

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
LABELS = (np.arange(60) % 10).astype(np.uint8)
mnist_files = pytest.mark.skipif(not os.environ.get("KD_DATA"), reason="KD_DATA names no folder with MNIST/raw")


def test_the_table_has_every_dataset_of_the_experiment_file() -> None:
    assert list(SETS) == list(TORCHVISION)


def idx_files() -> Iterator[tuple[str, bytes]]:
    """Yield the four files of a dataset in MNIST's format, with 60 training and 20 test examples."""
    for part, count in (("train", 60), ("t10k", 20)):
        yield f"{part}-images-idx3-ubyte", struct.pack(">4i", 2051, count, 28, 28) + IMAGES[:count].tobytes()
        yield f"{part}-labels-idx1-ubyte", struct.pack(">2i", 2049, count) + LABELS[:count].tobytes()


def test_fashion_mnist_has_class_names(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in idx_files():
        (raw / name).write_bytes(content)
    data = load_dataset(Data(source="fashion-mnist", validation=0.5), tmp_path)
    assert [len(data.train), len(data.validation), data.test_examples] == [30, 30, 20]
    assert data.classes[:2] == ["T-shirt/top", "Trouser"]
    assert data.read_test().images[:, 0].mul(255).round().numpy() == pytest.approx(IMAGES[:20])
    assert load_dataset(Data(source="fashion-mnist", validation=0.5, size=[14, 14]), tmp_path).input_shape == (
        1,
        14,
        14,
    )


def test_usps_is_read_from_text(tmp_path: Path) -> None:
    def line(row: int) -> str:
        pixels = IMAGES[row, :16, :16].ravel() / 127.5 - 1
        return f"{LABELS[row] + 1} " + " ".join(f"{place}:{value:.4f}" for place, value in enumerate(pixels, start=1))

    for name, count in (("usps.bz2", 60), ("usps.t.bz2", 20)):
        (tmp_path / name).write_bytes(bz2.compress("\n".join(map(line, range(count))).encode()))
    data = load_dataset(Data(source="usps", validation=0.5), tmp_path)
    assert (data.input_shape, data.test_examples) == ((1, 16, 16), 20)
    assert data.read_test().images[:, 0].numpy() * 255 == pytest.approx(
        IMAGES[:20, :16, :16], abs=1.01
    )  # torchvision truncates instead of rounding


@pytest.mark.parametrize("name", TORCHVISION)
def test_an_empty_folder_is_reported_with_the_missing_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_dataset(Data(source=name), tmp_path)
    assert f"{name}: {tmp_path}: no readable {SETS[name].name} in this folder" in str(error.value)
    assert f"Allowed: a folder that holds {SETS[name].needs}" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_concurrent_processes_download_a_dataset_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the second process read the first one's incomplete file."""
    monkeypatch.delenv("KD_DATA", raising=False)
    packed = {f"{name}.gz": gzip.compress(content) for name, content in idx_files()}
    requests: list[str] = []

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            requests.append(name)
            self.send_response(200)
            self.send_header("Content-Length", str(len(packed[name])))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # clients that only ask for the address close the connection
                self.wfile.write(packed[name][:100])
                time.sleep(0.3)
                self.wfile.write(packed[name][100:])

    def digest() -> str:
        return load_dataset(Data(source="mnist", validation=0.5)).digest

    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server, ThreadPoolExecutor(3) as threads:
        threads.submit(server.serve_forever, poll_interval=0.05)
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        sums = [(name, md5(content).hexdigest()) for name, content in packed.items()]
        monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
        try:
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
            alone, expected_requests = digest(), list(requests)
            requests.clear()
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "both"))
            first = threads.submit(digest)
            while not list(tmp_path.glob("both/**/*.gz")):
                assert not first.done(), first.result()
            second = threads.submit(digest)
            assert [first.result(), second.result()] == [alone, alone]
        finally:
            server.shutdown()
    assert requests == expected_requests


def test_a_cache_folder_that_is_a_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("KD_DATA", raising=False)
    with pytest.raises(UserError, match=r"/file/kdflow: can't store mnist: Not a directory\. Allowed: "):
        load_dataset(Data(source="mnist"))


@pytest.mark.fault  # takes long
def test_torchvision_reads_a_dataset_once_until_its_files_change(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)

    def write(images: np.ndarray) -> None:
        for part in ("train", "t10k"):
            (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, 60, 28, 28) + images.tobytes())
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, 60) + LABELS.tobytes())

    def read_alone() -> tuple[str, str]:
        """Return the dataset's digest from a new process, and whether torchvision was imported there."""
        code = """
import sys
from pathlib import Path
from kdmodels.data import load_dataset
from kdmodels.experiment import Data
print(load_dataset(Data(source="mnist", validation=0.5), Path(sys.argv[1])).digest, "torchvision" in sys.modules)
"""
        command = [sys.executable, "-c", code, str(tmp_path)]
        digest, imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return digest, imported

    write(IMAGES)
    first, again = read_alone(), read_alone()
    assert (first[1], again) == ("True", (first[0], "False"))
    write(255 - IMAGES)
    changed = read_alone()
    assert changed[0] != first[0]
    assert changed[1] == "True"


@mnist_files
def test_mnist_has_the_published_counts_and_moments() -> None:
    mnist = load_dataset(Data(source="mnist"))
    assert [len(mnist.train), len(mnist.validation), len(mnist.read_test())] == [54_000, 6_000, 10_000]
    assert torch.bincount(mnist.read_test().labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (mnist.mean, mnist.std) == ([0.1307], [0.3081])
    assert mnist.train.images.mean().item() == pytest.approx(0.1307, abs=1e-3)


def test_a_folder_without_mnist_is_left_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"MNIST/raw/train-images-idx3-ubyte"):
        load_dataset(Data(source="mnist"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"\x00\x00\x08\x03\x00\x00", b"garbage" * 100])
def test_damaged_mnist_files_are_reported(tmp_path: Path, damage: bytes) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(damage)
    with pytest.raises(UserError, match="no readable MNIST"):
        load_dataset(Data(source="mnist"), tmp_path)
