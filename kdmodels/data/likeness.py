"""Search for test images that a model has seen in training.

A descriptor holds the mean grey levels of 8 x 8 cells of an image. The descriptors of a model's training images are
stored. If the descriptor of a test image is close to a stored descriptor, the test image counts as a copy of a training
image.

If an image is saved again with another compression, its pixels change, but its descriptor changes by only a few grey
levels. Scaled, cropped, mirrored and rotated copies are not found.

Different images of one scene, for example photos of parts under a fixed camera, also have close descriptors. If many
training images are close to each other, they seem to show one scene. A test image then counts as a copy only if its
descriptor is equal to a stored descriptor.
"""

from collections.abc import Iterable
from math import ceil

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from kdmodels.data.split import Split

SIDE = 8  # cells per row and per column
MOST, LEAST = 20.0, 5.0  # bounds of the distance limit, in grey levels; descriptors within the limit are copies
OF_CONTRAST = 0.1  # distance limit as a share of the image's contrast; plain images need a low limit
COPIES = 10  # largest expected number of copies of one image among the known images
ONE_SCENE = 0.1  # known images show one scene if more than this share of them have more than `COPIES` close images
_SAMPLE = 500  # number of known images that are sampled to detect one scene
_EQUAL = 0.5  # distance limit at which only equal descriptors count as copies
_MEAN_WEIGHT = 2.0  # weight of the mean brightness in a distance; 8 would give the distance between the cells
_CHUNK_VALUES = 2**22  # number of pixel values that are read at once


def descriptors(splits: Iterable[Split]) -> np.ndarray:
    """Return the descriptors of all images of the splits, (N, 64) uint8."""
    return np.concatenate([_of_split(split) for split in splits])


def look_alike(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return whether each image has a copy among the known images, (N,) bool.

    Args:
        images: The descriptors of the images, (N, 64) uint8.
        known: The descriptors of the known images, (M, 64) uint8.
    """
    others = np.unique(known, axis=0)
    tree = KDTree(_points(others)[0])
    sample, bound = _points_and_bounds(others[:: ceil(len(others) / _SAMPLE)])
    # The nearest neighbour is the image itself. `query` returns infinity for distances above the bound.
    distances, _ = tree.query(sample, k=[COPIES + 2], distance_upper_bound=MOST + 1, workers=-1)
    is_one_scene = (distances[:, 0] <= bound).mean() > ONE_SCENE
    points, bound = _points_and_bounds(images)
    if is_one_scene:
        bound = np.full(len(points), _EQUAL)
    distances, _ = tree.query(points, distance_upper_bound=bound.max() + 1, workers=-1)
    return np.asarray(distances <= bound)


def _points_and_bounds(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a point for each descriptor, (N, 65), and a distance limit for each point, (N,).

    An image counts as a copy of image i if the distance between its point and point i is at most limit i.
    """
    points, contrast = _points(cells)
    return points, np.clip(OF_CONTRAST * contrast, LEAST, MOST)


def _points(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a point for each descriptor, (N, 65), and the contrast of each image, (N,).

    The first 64 coordinates of a point are the cells minus their mean. The last coordinate is their mean, times a
    constant weight. The contrast is the norm of the first 64 coordinates.
    """
    values = cells.astype(np.float32)
    mean = values.mean(axis=1, keepdims=True)
    centred = values - mean
    return np.concatenate([centred, _MEAN_WEIGHT * mean], axis=1), np.linalg.norm(centred, axis=1)


def _of_split(split: Split) -> np.ndarray:
    """Return the descriptors of the images of one split, (N, 64) uint8."""
    channels, height, width = split.pixels.shape[1:]
    rows, columns = _cells(height), _cells(width)
    scale = 255 / (split.top * channels)
    chunks = torch.arange(len(split)).split(max(1, _CHUNK_VALUES // (channels * height * width)))
    descriptors = []
    for chunk in chunks:
        grey = split.stored(chunk).sum(dim=1, dtype=torch.float32)  # (B, H, W)
        narrow = grey.flatten(0, 1) @ columns.T  # (B * H, SIDE)
        cells = narrow.view(-1, height, SIDE).transpose(1, 2).flatten(0, 1) @ rows.T  # (B * SIDE, SIDE)
        descriptors.append((cells * scale).round().clamp(0, 255).to(torch.uint8).view(-1, SIDE**2))
    return torch.cat(descriptors).numpy() if descriptors else np.empty((0, SIDE**2), np.uint8)


def _cells(length: int) -> Tensor:
    """Return the weights of the pixels along an image side in the mean of each cell, (SIDE, length).

    Each row holds the weights of one cell and sums to 1. `length` is the number of pixels of the side.
    """
    borders = torch.arange(SIDE + 1) * (length / SIDE)
    low, high = borders[:-1, None], borders[1:, None]
    pixels = torch.arange(length)
    overlap = (torch.minimum(high, pixels + 1.0) - torch.maximum(low, pixels.float())).clamp(min=0)
    return overlap / overlap.sum(dim=1, keepdim=True)
