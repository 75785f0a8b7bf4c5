"""Loading of datasets. The source of a dataset is a published dataset, the user's files, or the user's function."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdmodels.data.dataset import Dataset
    from kdmodels.data.images import read_images
    from kdmodels.data.sources import load_dataset
    from kdmodels.data.split import Split

__all__ = ["Dataset", "Split", "load_dataset", "read_images"]
_MODULES = {"Dataset": "dataset", "Split": "split", "load_dataset": "sources", "read_images": "images"}


def __getattr__(name: str) -> object:
    """Import the module of a name only when the name is first used.

    Commands that only decode images, such as `kd predict`, therefore start without importing torch.

    Raises:
        AttributeError: The name is not in `__all__`.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
