"""Where tensors are computed, and what to change when they do not fit there."""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache

import torch

from kdmodels.errors import UserError

CPU = torch.device("cpu")
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
FULL = ("out of memory", "not enough memory", "can't allocate memory")
"""How torch's allocators say it; the CPU's raises a plain RuntimeError."""


@cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MB that a step frees for the next one; under another C library nothing happens.

    Else it gives arrays of a few megabytes back to the system and has them mapped anew in every step.
    """
    with suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MALLOC_MMAP_THRESHOLD, 64 * 2**20)
        libc.mallopt(MALLOC_TRIM_THRESHOLD, 256 * 2**20)


def find_device(name: str) -> torch.device:
    """The device that an experiment names; `auto` is the first there is of CUDA, MPS and the CPU.

    Raises:
        UserError: this machine does not have it.

    >>> find_device("cpu")
    device(type='cpu')
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [kind for kind, is_there in there.items() if is_there]
    if name not in ("auto", *found):
        raise UserError(f"device: {name}: this machine has none; allowed: auto, {', '.join(found)}")
    return torch.device(found[0] if name == "auto" else name)


@contextmanager
def told_when_full(settings: Mapping[str, object]) -> Iterator[None]:
    """Turn a lack of memory inside the block into an error that names the settings to lower, with their values.

    Raises:
        UserError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is of the first kind, NumPy's of the second
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in FULL):
            raise
        lower = ", ".join(f"{name} ({value})" for name, value in settings.items())
        raise UserError(f"out of memory; lower one of: {lower}") from error
