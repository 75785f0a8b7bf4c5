"""Explicit randomness. Every random draw depends only on a seed and on a purpose, for example "order"."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import RLock

import torch
from torch import Generator, Tensor, nn

GOLDEN = 0x9E3779B97F4A7C15  # the increment of SplitMix64
TEACHER_SEEDS = 2**33  # added to a teacher's seed, so that no student repeats the random draws of its teacher

_CPU = torch.device("cpu")
_GLOBAL = RLock()  # all threads share torch's global generators, and students train in threads


def generator_for(seed: int, *purpose: str | int) -> Generator:
    """Return a CPU generator for a seed and a purpose, for example `generator_for(seed, "order", epoch)`.

    No global state is read or changed. If the purpose contains the epoch, the draws of an epoch can be repeated without
    the draws of earlier epochs. Torch's generator uses only 32 bits of its seed, so two purposes have the same draws
    with a probability of 1 in 2^32.

    >>> draws = [torch.rand(1, generator=generator_for(0, "order", epoch)) for epoch in (1, 1, 2)]
    >>> torch.equal(draws[0], draws[1]), torch.equal(draws[0], draws[2])
    (True, False)
    """
    generator = Generator()
    generator.manual_seed(seed_bits(seed, *purpose))
    return generator


class StepRandomness(nn.Module, ABC):
    """A layer that receives its random numbers from the training step and uses no global generator.

    Attributes:
        drawn: The buffer of random numbers. In every step, the trainer replaces the buffer with the result of `draw`.
    """

    drawn: Tensor

    @abstractmethod
    def draw(self, indices: Tensor, generator: Generator) -> Tensor:
        """Return the random numbers for one step.

        Args:
            indices: The indices of the examples in the batch, (B,).
            generator: The generator that draws the numbers.
        """


@contextmanager
def isolated_rng(generator: Generator | None = None, device: torch.device = _CPU) -> Iterator[None]:
    """Isolate the random draws of a block: restore the states of torch's global generators when the block ends.

    Only one thread at a time can enter the block. The states of the CPU's generator and of a CUDA device's generator
    are restored. The states of other accelerators' generators are not restored.

    Args:
        generator: The generator that draws a seed for the global generators. If `None`, the block continues from
            their current states.
        device: The device whose global generator the block uses.

    >>> before = torch.get_rng_state()
    >>> with isolated_rng(generator_for(0, "x")):
    ...     one = torch.rand(())
    >>> with isolated_rng(generator_for(0, "x")):
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
    """Return uniform random draws in [0, 1) for items, such as images, that are identified by an index.

    The draws of an item depend only on the seed, the purpose, the number of draws per item, and the index of the item.
    The draws are outputs of SplitMix64, which can be computed in any order: draw j of item n is output n * draws + j.
    All operations are exact, so the draws are the same on every device.

    Args:
        numbers: The indices of the items, (B,), int64, 0 or more.
        draws: The number of draws per item.
        seed: The seed.
        purpose: The parts of the purpose's name. For the same seed, different purposes give different draws.

    Returns:
        Draws, (draws, B), float64.

    References:
        Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014, figure 17.

    >>> uniforms(torch.tensor([3, 7, 3]), 1, 0, "flip")[0].unique().numel()
    2
    """
    counters = numbers * draws + torch.arange(1, draws + 1, device=numbers.device).unsqueeze(1)  # (draws, B)
    return _mixed(_signed(seed_bits(seed, *purpose)) + counters * _signed(GOLDEN)).double() / 2**53


def _mixed(bits: Tensor) -> Tensor:
    """Apply the output function of SplitMix64, and return the highest 53 bits."""
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(bits ^ _shifted(bits, 31), 11)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Shift bits to the right and fill with zeros. Torch's own shift of int64 would fill with the sign bit."""
    return (bits >> places) & (2 ** (64 - places) - 1)


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def seed_bits(seed: int, *purpose: str | int) -> int:
    """Return a hash of a seed and a purpose: an integer from 0 to 2^64 - 1."""
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")
