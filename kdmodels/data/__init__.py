"""Data: sources, their splits, and the digest that names their content."""

from kdmodels.data.dataset import Dataset, Split
from kdmodels.data.images import read_images
from kdmodels.data.sources import load_dataset

__all__ = ["Dataset", "Split", "load_dataset", "read_images"]
