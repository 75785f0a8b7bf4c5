"""Splits: rows of one array, and two splits joined."""

import torch

from kdmodels.data.split import Joined, Split, at_rows

PIXELS = torch.arange(5 * 2 * 3 * 4, dtype=torch.uint8).view(5, 2, 3, 4)


def test_a_split_shows_its_rows_in_order() -> None:
    split = Split(PIXELS, torch.tensor([1, 0, 1]), top=255, rows=torch.tensor([4, 0, 2]))
    assert len(split) == 3
    assert torch.equal(split.images, PIXELS[[4, 0, 2]].float() / 255)
    assert torch.equal(split.batch(torch.tensor([[2, 0]])), PIXELS[[2, 4]][None].float() / 255)
    assert torch.equal(Split(PIXELS, torch.zeros(5), top=255).images, PIXELS.float() / 255)


def test_rows_of_any_shape_are_taken() -> None:
    rows = torch.tensor([[0, 4], [2, 2]])
    assert torch.equal(at_rows(PIXELS, rows), PIXELS[rows])


def test_a_joined_split_continues_with_the_second_split() -> None:
    first = Split(PIXELS, torch.tensor([1, 0]), top=255, rows=torch.tensor([4, 0]))
    second = Split(PIXELS.flip(0), torch.full((5,), -1), top=255)
    joined = Joined(PIXELS, torch.cat([first.labels, second.labels]), 255, first=first, second=second)
    assert len(joined) == 7
    assert torch.equal(joined.images, torch.cat([first.images, second.images]))
    assert torch.equal(joined.batch(torch.tensor([[6, 0]])), torch.stack([second.images[4], first.images[0]])[None])
    chosen = torch.tensor([0, 3, 6])
    assert torch.equal(joined.take(chosen).images, joined.images[chosen])
    assert torch.equal(joined.take(chosen).labels, joined.labels[chosen])


def test_examples_that_are_taken_are_a_split() -> None:
    chosen = torch.tensor([0, 2])
    for split in (Split(PIXELS, torch.arange(5)), Split(PIXELS, torch.arange(3), rows=torch.tensor([4, 0, 2]))):
        assert torch.equal(split.take(chosen).images, split.images[chosen])
        assert torch.equal(split.take(chosen).labels, chosen)
