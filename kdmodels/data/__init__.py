"""Data: sources, their splits, and the digest that names their content."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdmodels.data.dataset import Dataset, Split
    from kdmodels.data.images import read_images
    from kdmodels.data.sources import load_dataset

__all__ = ["Dataset", "Split", "load_dataset", "read_images"]
_HOMES = {"Dataset": "dataset", "Split": "dataset", "load_dataset": "sources", "read_images": "images"}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the images' decoder needs no torch, so `kd predict` does not wait for it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
