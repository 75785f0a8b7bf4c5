"""Numbered draws equal the published SplitMix64, are uniform, and depend on the number alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from torch import Tensor

from kdmodels.randomness import seed_bits, uniforms

MASK = 2**64 - 1


def splitmix64(state: int, count: int) -> list[int]:
    """Return outputs of the published generator, one after the other."""
    outputs = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(z ^ (z >> 31))
    return outputs


def test_the_plain_generator_gives_the_published_outputs() -> None:
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.integers(0, 2**40), st.lists(st.integers(0, 200), min_size=1, max_size=8), st.integers(1, 4))
def test_draws_are_outputs_of_splitmix64(seed: int, numbers: list[int], draws: int) -> None:
    outputs = splitmix64(seed_bits(seed, "flip", 3), 201 * draws)
    expected = [[(outputs[n * draws + j] >> 11) / 2**53 for n in numbers] for j in range(draws)]
    assert uniforms(torch.tensor(numbers), draws, seed, "flip", 3).tolist() == expected


def test_draws_are_uniform() -> None:
    draws = uniforms(torch.arange(100_000), 2, 0, "crop", 0)
    assert chisquare(torch.histc(draws.flatten(), 1000, 0, 1).numpy()).pvalue > 0.01
    pairs = (draws[0] * 32).long() * 32 + (draws[1] * 32).long()  # an image's two draws
    assert chisquare(torch.bincount(pairs, minlength=1024).numpy()).pvalue > 0.01
    steps = draws[0].diff() % 1  # of neighbours
    assert kstest(steps.numpy(), "uniform").pvalue > 0.01


def unlike(one: Tensor, other: Tensor) -> bool:
    return abs(torch.corrcoef(torch.stack([one, other]))[0, 1].item()) < 0.02


def test_seeds_purposes_and_views_have_different_draws() -> None:
    numbers = torch.arange(50_000)
    first = uniforms(numbers, 1, 0, "flip", 0)[0]
    for purpose in ((1, "flip", 0), (0, "crop", 0), (0, "flip", 1)):
        assert unlike(first, uniforms(numbers, 1, *purpose)[0])
    assert torch.equal(first, uniforms(numbers, 1, 0, "flip", 0)[0])
