"""A worker without the files of the data source gets the data from the store: once, whole, and checked."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from kdmodels.data import Dataset
from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment
from tasks import prepare_data as preparing
from tasks import stored_data, tracking
from tasks.prepare_data import load, prepare_data
from tasks.references import DataReference
from tasks.stored_data import downloads, is_needed, store_data
from tasks.tracking.tags import Tag
from tests.conftest import SMALL

CHUNKS = 5  # number of files of pixels in these tests


@pytest.fixture
def source(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (100, 1, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(100) % 2)
    return tmp_path / "images.npz"


def stored(source: Path) -> tuple[DataReference, Dataset]:
    """Store a dataset in a run. Return its reference and the dataset, and let this process be another machine.

    The source exists only on the first machine, and a worker has nothing in memory.
    """
    reference = prepare_data.fn(Data(source=str(source)), None)
    dataset = load(reference)
    store_data(dataset, tracking.start("digits", "digits", "comparison"))
    source.unlink()
    preparing._loaded.clear()
    return reference, dataset


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(stored_data, "CHUNK_BYTES", 16 * 16)
    yield
    preparing._loaded.clear()


def requests(folder: Path, verb: str) -> int:
    """Return the number of requests for artifacts with a verb, from the server's log."""
    log = (folder / "server.log").read_text()
    return len(re.findall(rf'"{verb} /api/2\.0/mlflow-artifacts/artifacts/\S*?/artifacts/\S+ HTTP', log))


def test_the_data_are_sent_once_to_each_machine_and_an_interrupted_download_continues(
    source: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, dataset = stored(source)
    calls = iter(range(100))

    def interrupted() -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stored_data.interruption, "check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(reference)
    assert requests(tmp_path, "GET") == 3 + 1
    for _ in range(2):
        copy = load(reference)
        assert copy.digest == dataset.digest
        for name in ("train", "validation"):
            assert torch.equal(getattr(copy, name).images, getattr(dataset, name).images)
            assert torch.equal(getattr(copy, name).labels, getattr(dataset, name).labels)
        assert requests(tmp_path, "GET") == CHUNKS + 1
        preparing._loaded.clear()
    store_data(dataset, tracking.start("other", "other", "comparison"))
    assert requests(tmp_path, "PUT") == CHUNKS + 1  # the second comparison finds the data of the first


def test_damaged_pixels_are_refused(source: Path, store: Path) -> None:
    reference, _ = stored(source)
    file = next(store.rglob("pixels-00002.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"pixels-00002.npy' is damaged: an image differs from its fingerprint"):
        load(reference)
    assert not list(downloads().rglob(stored_data.PIXELS))


def test_pickled_pixels_are_refused(source: Path, store: Path) -> None:
    reference, _ = stored(source)
    file = next(store.rglob("pixels-00002.npy"))
    np.save(file, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="Python objects"):
        load(reference)


@pytest.mark.parametrize("pool", ["../../x", "0" * 31, "g" * 32])
@pytest.mark.usefixtures("store")
def test_the_name_of_a_folder_is_a_digest(source: Path, pool: str) -> None:
    reference, _ = stored(source)
    name = reference.distillation_digest[: stored_data.DIGITS]
    holder = tracking.data_holder(name)
    assert holder is not None
    tracking.set_tags(holder.run_id, {Tag.STORED_DATA: f'{{"{name}": "{pool}"}}'})
    with pytest.raises(UserError, match="not a digest"):
        load(reference)


@pytest.mark.usefixtures("store")
def test_data_that_are_nowhere_are_an_error(source: Path) -> None:
    reference = prepare_data.fn(Data(source=str(source)), None)
    preparing._loaded.clear()
    source.unlink()
    with pytest.raises(UserError, match=r"does not exist.* The tracking store does not hold the data either"):
        load(reference)


@pytest.mark.usefixtures("store")
def test_a_worker_never_downloads_a_published_dataset() -> None:
    fields = {"folder": None, "digest": "d", "training_digest": "t", "distillation_digest": "0", "examples": {}}
    shape = {"input_shape": (1, 28, 28), "classes": [], "mean": [], "std": []}
    with pytest.raises(UserError, match=r"the files of mnist are not on this machine\. The tracking store"):
        load(DataReference.model_validate({"data": Data(source="mnist")} | fields | shape))


@pytest.mark.parametrize("kind", ["auto", "thread", "process", "ray", "dask"])
@pytest.mark.parametrize("uri", ["sqlite:////store.db", "http://server"])
def test_data_are_stored_only_for_clusters_and_only_on_servers(
    kind: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    experiment = Experiment.model_validate(SMALL | {"runner": {"kind": kind}})
    assert is_needed(experiment) is (kind in ("ray", "dask") and uri.startswith("http"))
