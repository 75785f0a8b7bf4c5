"""Published datasets that are read with torchvision or scikit-learn.

The arrays are cached after the first read, because importing these packages takes seconds.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import FileLock

from kdmodels.data.arrays import chunks
from kdmodels.data.cache import cached
from kdmodels.data.decoding import read_array, read_decoded, write_arrays
from kdmodels.data.files import require_regular
from kdmodels.data.parts import Part, Source
from kdmodels.errors import UserError
from kdmodels.files.folders import cache_folder, private_folder
from kdmodels.garbage_collection import gc_paused


@dataclass(frozen=True)
class Published:
    """A published dataset that torchvision can read.

    Args:
        name: The name of the dataset's class in `torchvision.datasets`.
        halves: The values of this class's second argument that select the training half and the test half.
        files: The glob pattern of the dataset's files, relative to the data folder.
        needs: A description of the files, for error messages.
        normalise: The published mean and standard deviation of each channel. `None` if they are not published.
    """

    name: str
    halves: tuple[bool, bool] | tuple[str, str]
    files: str
    needs: str
    normalise: tuple[list[float], list[float]] | None = None


@dataclass(frozen=True)
class Half:
    """The training or the test half of a published dataset.

    Args:
        images: Images, (N, C, H, W).
        labels: The labels of the images, (N,).
        classes: The class names. A label is an index into this list.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]


class HasData(Protocol):
    """A dataset object of torchvision. Its attribute `data` holds the images."""

    data: np.ndarray


FLAGS, NAMES = (True, False), ("train", "test")
LABELS, CLASSES = "labels.npy", "classes.json"
IDX = "train-images-idx3-ubyte and its three companions"
SETS = {
    # Every published MNIST recipe uses this normalisation.
    "mnist": Published("MNIST", FLAGS, "MNIST/raw/*", f"MNIST/raw/{IDX}", ([0.1307], [0.3081])),
    "fashion-mnist": Published("FashionMNIST", FLAGS, "FashionMNIST/raw/*", f"FashionMNIST/raw/{IDX}"),
    "kmnist": Published("KMNIST", FLAGS, "KMNIST/raw/*", f"KMNIST/raw/{IDX}"),
    "usps": Published("USPS", FLAGS, "usps*.bz2", "usps.bz2 and usps.t.bz2"),
    "cifar10": Published(
        "CIFAR10", FLAGS, "cifar-10-batches-py/*", "cifar-10-batches-py/data_batch_1 and its companions"
    ),
    "cifar100": Published("CIFAR100", FLAGS, "cifar-100-python/*", "cifar-100-python/train, test and meta"),
    "svhn": Published("SVHN", NAMES, "*_32x32.mat", "train_32x32.mat and test_32x32.mat"),
    "stl10": Published("STL10", NAMES, "stl10_binary/*", "stl10_binary/train_X.bin and its companions"),
}


def read(name: str, folder: Path | None) -> Source:
    """Read a published dataset.

    Args:
        name: The name of the dataset, a key of `SETS`.
        folder: The folder that holds the dataset's files. If `None`, the files are in the user's cache folder. If they
            are not there yet, they are downloaded.

    Raises:
        UserError: The files are missing or damaged, or can't be downloaded.
    """
    if folder is None:
        _download(name)
    elif not _stamps(name, folder):
        _torchvision(name, folder)  # raises an error that names the missing files
    place = [name, (folder or cache_folder()).absolute()]
    unpacked = cached(place, _stamps(name, folder), lambda target: _unpack(name, folder, target))
    return Source(json.loads((unpacked / CLASSES).read_text()), _parts(unpacked), normalise=SETS[name].normalise)


def has_files(name: str, folder: str | None) -> bool:
    """Return whether the files of a published dataset are on this machine. For any other source, return `True`.

    Args:
        name: The name of a source.
        folder: The folder that holds the dataset's files. If `None`, the files are in the user's cache folder.
    """
    return name not in SETS or bool(_stamps(name, Path(folder) if folder else None))


def digits() -> Source:
    """Return scikit-learn's 1797 images of digits, all in the split `train`. The 8x8 pixels range from 0 to 16."""
    unpacked = cached(["digits"], version("scikit-learn"), _unpack_digits)
    return Source([str(digit) for digit in range(10)], _parts(unpacked), top=16)


def _download(name: str) -> None:
    """Download a dataset to the user's cache folder, unless the dataset is already in the folder.

    A lock makes other processes wait. Otherwise, they could read an incomplete file.
    """
    try:
        private_folder(cache_folder())
        with FileLock(cache_folder() / f"{name}.lock", mode=0o600):
            if not _stamps(name, None):
                _torchvision(name, None)
    except OSError as error:
        raise UserError(
            f"{cache_folder()}: can't store {name}: {error.strerror or error}. Allowed: a writable cache folder, set "
            "by $XDG_CACHE_HOME; or a folder that holds the files, given by --data-dir or $KD_DATA"
        ) from error


def _parts(unpacked: Path) -> dict[str, Part]:
    parts = {}
    for folder in unpacked.glob("*/"):
        decoded, labels = read_decoded(folder), read_array(folder / LABELS)
        parts[folder.name] = Part(decoded.pixels, labels, decoded.prints, np.arange(len(labels)))
    return parts


def _stamps(name: str, folder: Path | None) -> list[tuple[str, int, int]]:
    """Return the name, size and modification time of each file of a dataset. If a file changes, its entry changes.

    Args:
        name: The name of the dataset.
        folder: The folder that holds the files. If `None`, the files are in the user's cache folder.
    """
    files = sorted((folder or cache_folder()).glob(SETS[name].files))
    for path in files:
        if not path.is_dir():
            require_regular(path)
    status = [(path, path.stat()) for path in files]
    return [(path.name, stat.st_size, stat.st_mtime_ns) for path, stat in status]


def _unpack(name: str, folder: Path | None, target: Path) -> None:
    train, test = (_half(dataset) for dataset in _torchvision(name, folder))
    for split, half in (("train", train), ("test", test)):
        labels, classes = half.labels, len(train.classes)
        if len(labels) != len(half.images) or not len(labels) or labels.min() < 0 or labels.max() >= classes:
            raise UserError(
                f"{name}: {folder}: the {split} split is inconsistent: {len(half.images)} images, {len(labels)} labels "
                f"and {classes} classes. Allowed: the published files"
            )
        _write(target / split, half.images, labels)
    (target / CLASSES).write_text(json.dumps(train.classes))


def _unpack_digits(target: Path) -> None:
    with gc_paused():
        from sklearn.datasets import load_digits  # noqa: PLC0415 - takes seconds, and is needed once per machine

    bundle = load_digits()
    _write(target / "train", bundle.images.astype(np.uint8)[:, None], bundle.target)


def _write(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir()
    write_arrays(folder, chunks(images))
    np.save(folder / LABELS, labels.astype(np.int64))


def _torchvision(name: str, folder: Path | None) -> tuple[HasData, HasData]:
    """Return torchvision's dataset objects for the training half and the test half.

    Args:
        name: The name of the dataset.
        folder: The folder that holds the files. If `None`, the files are in the user's cache folder, and missing files
            are downloaded.

    Raises:
        UserError: The files are missing or damaged, or can't be downloaded.
    """
    with gc_paused():
        import torchvision.datasets  # noqa: PLC0415 - takes seconds, and is needed once per machine

    dataset = SETS[name]
    make: Callable[..., HasData] = getattr(torchvision.datasets, dataset.name)
    root, download = str(folder or cache_folder()), folder is None
    train, test = dataset.halves
    try:
        return make(root, train, download=download), make(root, test, download=download)
    except (RuntimeError, OSError, ValueError, AssertionError, EOFError, KeyError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if download:
            raise UserError(
                f"{name}: can't be downloaded: {reason}. Allowed offline: a folder that holds {dataset.needs}, given "
                "by --data-dir or $KD_DATA"
            ) from error
        raise UserError(
            f"{name}: {folder}: no readable {dataset.name} in this folder: {reason}. Allowed: a folder that holds "
            f"{dataset.needs}, or no folder to download them"
        ) from error


def _half(dataset: HasData) -> Half:
    """Convert a dataset object of torchvision to a `Half`.

    The conversion is needed because torchvision's classes differ in the names and the layout of their arrays.
    """
    labels = np.asarray(getattr(dataset, "targets" if hasattr(dataset, "targets") else "labels"))
    images = np.asarray(dataset.data)
    if images.ndim == 3:
        images = images[:, None]  # (N, 1, H, W)
    elif images.shape[-1] == 3:
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    names = getattr(dataset, "classes", None)
    if names is None or names[0] == "0 - zero":  # MNIST names its classes "0 - zero", "1 - one", ...
        names = [str(label) for label in np.unique(labels)]
    return Half(images, labels, list(names))
