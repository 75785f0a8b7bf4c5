"""Explicit streams of randomness: every draw is a function of a seed and of what it is for."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import RLock

import torch
from torch import Generator

_CPU = torch.device("cpu")
_GLOBAL = RLock()  # torch's own generators belong to the whole process, and students train in threads


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
def forked(generator: Generator | None = None, device: torch.device = _CPU) -> Iterator[None]:
    """Lend torch's own generators, of the CPU and of a CUDA device, to code that knows no other, then put them back.

    One thread at a time is inside; another accelerator's generator is not put back.

    Args:
        generator: the draws inside are a function of it; None: of the global state.

    >>> before = torch.get_rng_state()
    >>> with forked(stream(0, "x")):
    ...     one = torch.rand(())
    >>> with forked(stream(0, "x")):
    ...     print(torch.rand(()) == one, torch.equal(before, torch.get_rng_state()))
    tensor(True) False
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    with _GLOBAL, torch.random.fork_rng([device] if device.type == "cuda" else []):
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
            (torch.default_generator if device == _CPU else torch).manual_seed(seed)
        yield
