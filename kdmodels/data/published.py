"""Published datasets, as torchvision and scikit-learn read them: once, for both take seconds to import."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from kdmodels.data.arrays import chunks
from kdmodels.data.cache import cached
from kdmodels.data.dataset import Part, Source
from kdmodels.data.decoding import read_array, read_decoded, write_arrays
from kdmodels.data.files import require_regular
from kdmodels.errors import UserError
from kdmodels.folders import cache_folder, private_folder
from kdmodels.garbage import uncollected


@dataclass(frozen=True)
class Published:
    """A class of torchvision.datasets, how its two parts are asked for, and its files: a glob, and in words."""

    name: str
    train: dict[str, Any]
    test: dict[str, Any]
    files: str
    needs: str
    normalise: tuple[list[float], list[float]] | None = None


BY_FLAG: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
BY_NAME: tuple[dict[str, Any], dict[str, Any]] = ({"split": "train"}, {"split": "test"})
LABELS, CLASSES = "labels.npy", "classes.json"
IDX = "train-images-idx3-ubyte and its three companions"
SETS = {
    # The normalisation of every published MNIST recipe.
    "mnist": Published("MNIST", *BY_FLAG, "MNIST/raw/*", f"MNIST/raw/{IDX}", ([0.1307], [0.3081])),
    "fashion-mnist": Published("FashionMNIST", *BY_FLAG, "FashionMNIST/raw/*", f"FashionMNIST/raw/{IDX}"),
    "kmnist": Published("KMNIST", *BY_FLAG, "KMNIST/raw/*", f"KMNIST/raw/{IDX}"),
    "usps": Published("USPS", *BY_FLAG, "usps*.bz2", "usps.bz2 and usps.t.bz2"),
    "cifar10": Published(
        "CIFAR10", *BY_FLAG, "cifar-10-batches-py/*", "cifar-10-batches-py/data_batch_1 and its companions"
    ),
    "cifar100": Published("CIFAR100", *BY_FLAG, "cifar-100-python/*", "cifar-100-python/train, test and meta"),
    "svhn": Published("SVHN", *BY_NAME, "*_32x32.mat", "train_32x32.mat and test_32x32.mat"),
    "stl10": Published("STL10", *BY_NAME, "stl10_binary/*", "stl10_binary/train_X.bin and its companions"),
}


def read(name: str, folder: Path | None) -> Source:
    """A published dataset from its folder; where there is none, downloaded to the user's cache folder.

    Raises:
        UserError: the files are not there or damaged, or can't be downloaded.
    """
    if folder is None:
        _download(name)
    elif not _stamps(name, folder):
        _made(name, folder)  # which says what is missing
    place = [name, (folder or cache_folder()).absolute()]
    kept = cached(place, _stamps(name, folder), lambda kept: _unpack(name, folder, kept))
    return Source(json.loads((kept / CLASSES).read_text()), _parts(kept), normalise=SETS[name].normalise)


def _download(name: str) -> None:
    """To the user's cache folder, where it is not there; another process waits, for it would take half a file."""
    try:
        private_folder(cache_folder())
        with FileLock(cache_folder() / f"{name}.lock", mode=0o600):
            if not _stamps(name, None):
                _made(name, None)
    except OSError as error:
        raise UserError(
            f"{cache_folder()}: {name} can't be kept there: {error.strerror or error}; allowed: a folder that can be "
            "written, by $XDG_CACHE_HOME, or with --data-dir or $KD_DATA one that holds the files"
        ) from error


def digits() -> Source:
    """Scikit-learn's 1797 digits of 8x8, all in one pool; their values end at 16."""
    kept = cached(["digits"], version("scikit-learn"), _unpack_digits)
    return Source([str(digit) for digit in range(10)], _parts(kept), top=16)


def _parts(kept: Path) -> dict[str, Part]:
    parts = {}
    for folder in kept.glob("*/"):
        decoded, labels = read_decoded(folder), read_array(folder / LABELS)
        parts[folder.name] = Part(decoded.pixels, labels, decoded.prints, np.arange(len(labels)))
    return parts


def _stamps(name: str, folder: Path | None) -> list[list[Any]]:
    """What changes when a file of the set does."""
    files = sorted((folder or cache_folder()).glob(SETS[name].files))
    for path in files:
        if not path.is_dir():
            require_regular(path)
    about = [(path, path.stat()) for path in files]
    return [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in about]


def _unpack(name: str, folder: Path | None, kept: Path) -> None:
    train, test = _made(name, folder)
    for split, own in (("train", train), ("test", test)):
        labels, known = _labels(own), len(_classes(train))
        if len(labels) != len(own.data) or not len(labels) or labels.min() < 0 or labels.max() >= known:
            told = f"{len(own.data)} images and {len(labels)} labels, of {known} classes"
            raise UserError(f"{name}: {folder}: its {split} split does not fit together: {told}")
        _keep(kept / split, _channels_first(own.data), _labels(own))
    (kept / CLASSES).write_text(json.dumps(_classes(train)))


def _unpack_digits(kept: Path) -> None:
    with uncollected():
        from sklearn.datasets import load_digits

    bundle = load_digits()
    _keep(kept / "train", bundle.images.astype(np.uint8)[:, None], bundle.target)


def _keep(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir()
    write_arrays(folder, chunks(images))
    np.save(folder / LABELS, labels.astype(np.int64))


def _made(name: str, folder: Path | None) -> tuple[Any, Any]:
    """Torchvision's own two datasets."""
    with uncollected():
        import torchvision.datasets

    about = SETS[name]
    make: Callable[..., Any] = getattr(torchvision.datasets, about.name)
    root, download = str(folder or cache_folder()), folder is None
    try:
        return make(root, download=download, **about.train), make(root, download=download, **about.test)
    except (RuntimeError, OSError, ValueError, AssertionError, EOFError, KeyError, ImportError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if download:
            raise UserError(
                f"{name}: could not be downloaded ({first}); when offline, give the folder that holds {about.needs} "
                "with --data-dir or $KD_DATA"
            ) from error
        raise UserError(
            f"{name}: {folder}: no readable {about.name} there ({first}); allowed: a folder that holds {about.needs}, "
            "or no folder at all to download them"
        ) from error


def _channels_first(data: Any) -> np.ndarray:
    images = np.asarray(data)
    if images.ndim == 3:
        return images[:, None]  # (N, 1, H, W)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if images.shape[-1] == 3 else images


def _labels(dataset: Any) -> np.ndarray:
    return np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)


def _classes(train: Any) -> list[str]:
    names = getattr(train, "classes", None)
    if names is None or names[0] == "0 - zero":  # MNIST's are its digits
        return [str(label) for label in np.unique(_labels(train))]
    return list(names)
