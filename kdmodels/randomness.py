"""Explicit streams of randomness: every draw is a function of a seed and of what it is for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import torch
from torch import Generator

_GLOBAL = threading.RLock()


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
def forked(generator: Generator | None = None) -> Iterator[None]:
    """For code that draws from torch's global generator: what it draws inside leaves no trace.

    Args:
        generator: the draws inside are a function of it; None: of the global state. One thread at a time is inside.

    >>> before = torch.get_rng_state()
    >>> with forked(stream(0, "x")):
    ...     one = torch.rand(())
    >>> with forked(stream(0, "x")):
    ...     print(torch.rand(()) == one, torch.equal(before, torch.get_rng_state()))
    tensor(True) False
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        if generator is not None:
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield
