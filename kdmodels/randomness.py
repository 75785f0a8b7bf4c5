"""Explicit streams of randomness: every draw is a function of a seed and of what it is for."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import Lock

import torch
from torch import Generator

GLOBAL = Lock()
"""Held while torch's own generators are lent: they belong to the whole process, and students train in threads."""


def stream(seed: int, *purpose: str | int) -> Generator:
    """A CPU generator for one purpose of one seed, for example `stream(seed, "order", epoch)`.

    Streams of different purposes are independent, nothing global is read or moved, and an epoch's draws can be
    made again without replaying the epochs before it.

    >>> a, b = stream(0, "order", 1), stream(0, "order", 2)
    >>> a.initial_seed() == stream(0, "order", 1).initial_seed(), a.initial_seed() == b.initial_seed()
    (True, False)
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    state = int.from_bytes(sha256(name.encode()).digest()[:8], "big")
    generator = Generator()
    generator.manual_seed(state)
    return generator


@contextmanager
def forked(seed: int, *purpose: str | int, device: torch.device) -> Iterator[None]:
    """Lend torch's own generators, of the CPU and of a CUDA device, to code that knows no other, then put them back.

    Inside the block they are at the beginning of the purpose's stream. One block at a time: others wait. Another
    accelerator's generator begins there too, and is not put back.

    >>> with forked(0, "dropout", device=torch.device("cpu")):
    ...     first = torch.rand(1)
    >>> with forked(0, "dropout", device=torch.device("cpu")):
    ...     bool(torch.rand(1) == first)
    True
    """
    with GLOBAL, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream(seed, *purpose).initial_seed())
        yield
