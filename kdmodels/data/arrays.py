"""Arrays as datasets: .npz, .parquet, and what the user's own function returns."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from kdmodels.data.dataset import Part, Source
from kdmodels.data.decoding import fingerprint

CHUNK = 1024  # images that are converted at once


def part(pixels: np.ndarray, labels: np.ndarray) -> Part:
    """Arrays (N, C, H, W) and (N,) as a part of a source."""
    chunks = [fingerprint(pixels[begin : begin + CHUNK]) for begin in range(0, len(pixels), CHUNK)]
    return Part(pixels, labels.astype(np.int64), np.concatenate(chunks), np.arange(len(pixels)))


def resized(source: Source, size: Sequence[int] | None) -> Source:
    """The same source with images of another height and width, by an antialiased bilinear filter."""
    if size is None:
        return source
    parts = {
        name: own if own.pixels.shape[2:] == tuple(size) else part(_resize(own.pixels, size), own.labels)
        for name, own in source.parts.items()
    }
    return Source(source.classes, parts, source.top, source.normalise, source.notes, source.skipped)


def _resize(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    out = np.empty((*pixels.shape[:2], *size), pixels.dtype)
    for begin in range(0, len(pixels), CHUNK):
        images = torch.from_numpy(pixels[begin : begin + CHUNK]).float()
        images = interpolate(images, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)
        values = images.numpy()
        out[begin : begin + CHUNK] = np.rint(values) if np.issubdtype(pixels.dtype, np.integer) else values
    return out
