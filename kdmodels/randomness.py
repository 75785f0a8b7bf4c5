"""Explicit randomness: every draw is a function of a seed and of what it is for."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import RLock

import torch
from torch import Generator, Tensor

GOLDEN = 0x9E3779B97F4A7C15
TEACHER_SEEDS = 2**33  # beyond every student's: no replica begins as its teacher did, or sees its batches

_CPU = torch.device("cpu")
_GLOBAL = RLock()  # torch's own generators belong to the whole process, and students train in threads


def stream(seed: int, *purpose: str | int) -> Generator:
    """A CPU generator for one purpose of one seed, for example `stream(seed, "order", epoch)`.

    Nothing global is read or moved, and an epoch's draws can be made again without replaying the epochs before it.
    Two purposes have the same stream by a chance of 1 in 2^32: so many of a seed's bits count for torch's generator.

    >>> draws = [torch.rand(1, generator=stream(0, "order", epoch)) for epoch in (1, 1, 2)]
    >>> torch.equal(draws[0], draws[1]), torch.equal(draws[0], draws[2])
    (True, False)
    """
    generator = Generator()
    generator.manual_seed(_state(seed, *purpose))
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


def uniforms(numbers: Tensor, draws: int, seed: int, *purpose: str | int) -> Tensor:
    """Uniform draws in [0, 1) for numbered things, each a function of the purpose and of its thing's number alone.

    They are outputs of SplitMix64, which can be computed in any order: draw j of number n is output n * draws + j.
    Integer operations and one exact scaling: the same bits on every device.

    Args:
        numbers: (B,), int64, from 0 on.

    Returns:
        (draws, B), float64.

    References:
        Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014, figure 17.

    >>> uniforms(torch.tensor([3, 7, 3]), 1, 0, "flip")[0].unique().numel()
    2
    """
    counters = numbers * draws + torch.arange(1, draws + 1, device=numbers.device).unsqueeze(1)  # (draws, B)
    return _mixed(_signed(_state(seed, *purpose)) + counters * _signed(GOLDEN)).double() / 2**53


def _mixed(bits: Tensor) -> Tensor:
    """SplitMix64's output function; of its 64 bits the highest 53."""
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(bits ^ _shifted(bits, 31), 11)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """To the right, zeros coming in: torch's own shift of int64 repeats the sign."""
    return (bits >> places) & (2 ** (64 - places) - 1)


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _state(seed: int, *purpose: str | int) -> int:
    """64 bits."""
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")
