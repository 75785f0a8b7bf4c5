"""Transfer sets that kdflow makes itself: images from a generator, or noise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdmodels.data.cache import cached
from kdmodels.data.decoding import read_decoded, write_arrays
from kdmodels.data.parts import UNLABELLED, Part, Source
from kdmodels.errors import UsageError
from kdmodels.experiment.data import Transfer
from kdmodels.serving.generator_file import ServedGenerator

SEED = 0  # seed of the latent codes and the noise; transfer sets do not depend on the seed of an experiment
CHUNK = 1_000  # number of images that are made at once


def made_images(source: Source, transfer: Transfer, generator: ServedGenerator | None) -> Part:
    """Return images from a generator, or noise images, as unlabelled examples.

    The images depend only on the generator or the kind of noise, on the number of images, and on the shape and the
    range of the source's pixels. They are made once, and then read from the cache.

    Args:
        source: The source of the labelled examples, which sets the shape and the range of the pixels.
        transfer: The field `data.transfer`, with `generator` or `noise`.
        generator: The generator that `transfer.generator` names. `None` for noise.

    Raises:
        UserError: The shape of the generator's images differs from the shape of the source's images.
    """
    shape = source.parts["train"].pixels.shape[1:]
    if generator is not None and generator.image_shape != shape:
        made, read = ("x".join(map(str, each)) for each in (generator.image_shape, shape))
        raise UsageError(
            f"data.transfer.generator: {transfer.generator} makes images of {made} (channels, height, width). "
            f"Allowed: {read}, as the images of data.source"
        )
    count, top = transfer.made, source.top
    origin = generator.digest if generator else f"{transfer.noise} noise"

    def produce(folder: Path) -> None:
        images = _noise(count, shape) if generator is None else _generated(count, generator)
        write_arrays(folder, (_stored(images(begin), source) for begin in range(0, count, CHUNK)))

    decoded = read_decoded(cached([origin, count, shape, top], [SEED], produce))
    return Part(decoded.pixels, np.full(count, UNLABELLED), decoded.prints, np.arange(count))


def _stored(images: np.ndarray, source: Source) -> np.ndarray:
    """Return images in [0, 1] with the type and the range of the source's pixels."""
    dtype, values = source.parts["train"].pixels.dtype, images * source.top
    return (np.rint(values) if np.issubdtype(dtype, np.integer) else values).astype(dtype)


Chunk = Callable[[int], np.ndarray]
"""A function that returns a chunk of images, (B, C, H, W) in [0, 1], given the number of the chunk's first image."""


def _generated(count: int, generator: ServedGenerator) -> Chunk:
    """Return a function that makes images with a generator. A conditional generator takes each class in turn."""

    def chunk(begin: int) -> np.ndarray:
        labels = np.arange(begin, min(begin + CHUNK, count)) % max(1, len(generator.classes))
        return generator.sample(labels, SEED + begin)

    return chunk


def _noise(count: int, shape: tuple[int, ...]) -> Chunk:
    """Return a function that makes images whose pixels are independent and uniform in [0, 1]."""

    def chunk(begin: int) -> np.ndarray:
        generator = np.random.default_rng([SEED, begin])
        return generator.random((min(CHUNK, count - begin), *shape), dtype=np.float32)

    return chunk
