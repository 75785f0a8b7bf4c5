"""The choice of a device, and the handling of out-of-memory errors."""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache

import torch

from kdmodels.errors import UserError

CPU = torch.device("cpu")
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # constants of glibc's malloc.h
FULL = ("out of memory", "not enough memory", "can't allocate memory")
"""Texts in out-of-memory errors of torch. They are needed because the CPU allocator raises a plain RuntimeError."""


@cache
def keep_freed_memory() -> None:
    """Make glibc keep up to 256 MB of freed memory, so that the next training step can reuse the memory.

    By default, glibc returns the memory of freed arrays of a few megabytes to the system. Every training step must then
    request new memory. With other C libraries, this function has no effect.
    """
    with suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MALLOC_MMAP_THRESHOLD, 64 * 2**20)
        libc.mallopt(MALLOC_TRIM_THRESHOLD, 256 * 2**20)


def find_device(name: str) -> torch.device:
    """Return the device that an experiment names. `auto` selects CUDA if available, then MPS, then the CPU.

    Raises:
        UserError: This machine does not have the device.

    >>> find_device("cpu")
    device(type='cpu')
    """
    availability = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    devices = [kind for kind, is_available in availability.items() if is_available]
    if name not in ("auto", *devices):
        raise UserError(f"device: this machine has no {name} device. Allowed: auto, {', '.join(devices)}")
    return torch.device(devices[0] if name == "auto" else name)


def count_gpus(name: str) -> int:
    """Return the number of this machine's CUDA devices, or 0 if `name` is not a CUDA device.

    Raises:
        UserError: This machine does not have the device.

    >>> count_gpus("cpu")
    0
    """
    return torch.cuda.device_count() if find_device(name).type == "cuda" else 0


@contextmanager
def out_of_memory_as_user_error(settings: Mapping[str, object]) -> Iterator[None]:
    """Turn an out-of-memory error in the block into a UserError that names the settings to lower.

    Args:
        settings: The settings that determine how much memory the block needs: each value, by the setting's name.

    Raises:
        UserError: The device or the machine ran out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError; NumPy raises MemoryError
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in FULL):
            raise
        lower = ", ".join(f"{name} ({value})" for name, value in settings.items())
        raise UserError(f"out of memory; lower one of: {lower}") from error
