"""Explicit streams of randomness: every draw is a function of a seed and of what it is for."""

from hashlib import sha256

from torch import Generator


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
