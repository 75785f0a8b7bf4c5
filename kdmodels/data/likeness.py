"""Which examples a model has seen: descriptors of its training images, and the search for images that look the same.

A copy of an image that was saved again, as JPEG or with other compression, has other pixels but the same descriptor up
to a few grey levels. Scaled, cropped, mirrored or rotated copies are not found.

Different images of one scene, such as parts under a fixed camera, are as close to each other as copies are. Among
such images only equal descriptors count as copies.
"""

from collections.abc import Iterable
from math import ceil

import numpy as np
import torch
from torch import Tensor

from kdmodels.data.dataset import Split

SIDE = 8  # cells in a row, and in a column
MOST, LEAST = 20.0, 5.0  # bounds of the largest distance between descriptors of one image, in grey levels
OF_CONTRAST = 0.1  # between them: this share of the image's contrast, so that plain images do not all look the same
COPIES = 10  # copies of one image that may be among the known ones
ONE_SCENE = 0.1  # known images are of one scene if more than this share looks like more than `COPIES` others
_SAMPLE = 500  # known images of which that is asked
_EQUAL = 0.5  # largest distance between equal descriptors
_MEAN_WEIGHT = 2.0  # of a difference in brightness; one in all cells would count 8
_CHUNK_VALUES = 2**22  # that are read at once


def descriptors(splits: Iterable[Split]) -> np.ndarray:
    """Return the mean grey level of 8 x 8 cells of every image, (N, 64) uint8: 64 bytes per image."""
    return np.concatenate([_of_split(split) for split in splits])


def look_alike(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return which images have a copy among the known ones: (N,) bool.

    Args:
        images: (N, 64) uint8, descriptors. known: (M, 64) uint8.
    """
    from scipy.spatial import KDTree  # takes a second to import

    others = np.unique(known, axis=0)
    tree = KDTree(_points(others)[0])
    sample, bound = _points_and_bounds(others[:: ceil(len(others) / _SAMPLE)])
    # The nearest is the image itself. Distances beyond the bound are infinite.
    distances, _ = tree.query(sample, k=[COPIES + 2], distance_upper_bound=MOST + 1, workers=-1)
    is_one_scene = (distances[:, 0] <= bound).mean() > ONE_SCENE
    points, bound = _points_and_bounds(images)
    if is_one_scene:
        bound = np.full(len(points), _EQUAL)
    distances, _ = tree.query(points, distance_upper_bound=bound.max() + 1, workers=-1)
    return np.asarray(distances <= bound)


def _points_and_bounds(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 65), the points of descriptors; and (N,), how close a copy of each has to be."""
    points, contrast = _points(cells)
    return points, np.clip(OF_CONTRAST * contrast, LEAST, MOST)


def _points(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 65), cells without their mean and the mean; and (N,), each image's contrast."""
    values = cells.astype(np.float32)
    mean = values.mean(axis=1, keepdims=True)
    centred = values - mean
    return np.concatenate([centred, _MEAN_WEIGHT * mean], axis=1), np.linalg.norm(centred, axis=1)


def _of_split(split: Split) -> np.ndarray:
    channels, height, width = split.pixels.shape[1:]
    rows, columns = _cells(height), _cells(width)
    scale = 255 / (split.top * channels)
    chunks = torch.arange(len(split)).split(max(1, _CHUNK_VALUES // (channels * height * width)))
    found = []
    for chunk in chunks:
        grey = split.stored(chunk).sum(dim=1, dtype=torch.float32)  # (B, H, W)
        narrow = grey.flatten(0, 1) @ columns.T  # (B * H, SIDE)
        cells = narrow.view(-1, height, SIDE).transpose(1, 2).flatten(0, 1) @ rows.T  # (B * SIDE, SIDE)
        found.append((cells * scale).round().clamp(0, 255).to(torch.uint8).view(-1, SIDE**2))
    return torch.cat(found).numpy() if found else np.empty((0, SIDE**2), np.uint8)


def _cells(length: int) -> Tensor:
    """Return (SIDE, length): the share of each pixel in each cell; a row sums to 1."""
    borders = torch.arange(SIDE + 1) * (length / SIDE)
    low, high = borders[:-1, None], borders[1:, None]
    pixels = torch.arange(length)
    overlap = (torch.minimum(high, pixels + 1.0) - torch.maximum(low, pixels.float())).clamp(min=0)
    return overlap / overlap.sum(dim=1, keepdim=True)
