"""Where datasets come from: a literal table of sources."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from kdmodels.data.dataset import Dataset, assemble, hold_out
from kdmodels.errors import UserError
from kdmodels.experiment import Data

DIGITS_TEST = 0.2  # scikit-learn's digits come without a test split


def load_dataset(data: Data, folder: Path | None = None) -> Dataset:
    """The dataset that an experiment names.

    Args:
        folder: where the files of a source that has files lie; None means `$KD_DATA`, and where that is not set
            either, the source is downloaded to the user's cache folder.

    Raises:
        UserError: the files are missing or unreadable, or can't be downloaded.
    """
    if folder is None and os.environ.get("KD_DATA"):
        folder = Path(os.environ["KD_DATA"])
    return SOURCES[data.source](folder, data)


def _digits(folder: Path | None, data: Data) -> Dataset:
    bundle = load_digits()
    images = bundle.images.astype(np.uint8)[:, None]  # (1797, 1, 8, 8), 0 … 16
    labels = bundle.target
    rest, test = hold_out(labels, DIGITS_TEST)
    return assemble(
        "digits",
        images=images[rest],
        labels=labels[rest],
        test_images=images[test],
        test_labels=labels[test],
        top=16,
        validation=data.validation,
        subset=data.subset,
    )


def _mnist(folder: Path | None, data: Data) -> Dataset:
    from torchvision.datasets import MNIST  # takes seconds to import, and digits do without

    root = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdflow"
    download = folder is None
    try:
        train, test = (MNIST(str(root), train=part, download=download) for part in (True, False))
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        if download:
            raise UserError(
                f"mnist: could not be downloaded ({_first_line(error)}); when offline, give the folder that holds "
                "MNIST/raw with --data-dir or $KD_DATA"
            ) from error
        raise UserError(
            f"mnist: {folder}: no readable MNIST there ({_first_line(error)}); allowed: a folder that holds "
            "MNIST/raw/train-images-idx3-ubyte and its three companions, or no folder at all to download them"
        ) from error
    return assemble(
        "mnist",
        images=train.data.numpy()[:, None],  # (60000, 1, 28, 28), 0 … 255
        labels=train.targets.numpy(),
        test_images=test.data.numpy()[:, None],
        test_labels=test.targets.numpy(),
        top=255,
        validation=data.validation,
        subset=data.subset,
        normalise=([0.1307], [0.3081]),  # the figures that every published MNIST recipe uses
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


SOURCES: dict[str, Callable[[Path | None, Data], Dataset]] = {"digits": _digits, "mnist": _mnist}
