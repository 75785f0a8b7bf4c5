"""Batches: which examples a step takes, their images and labels, and what the teacher says of just those images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from kdmodels.data.augment import NONE, Augmentation
from kdmodels.data.dataset import Split, at_rows
from kdmodels.device import CPU
from kdmodels.knowledge import Knowledge, LiveTeacher
from kdmodels.randomness import stream

Source = Sequence[Knowledge] | LiveTeacher | None
"""A teacher's stored knowledge, one a view; a teacher that is asked at every batch; or no teacher."""


@dataclass(frozen=True)
class Batch:
    """Images (..., C, H, W), their rows and labels (...), and by name what the teacher says and what is mixed in.

    `mixed` is as `kdmodels.data.augment.View.mixed` gives it; `teacher` as `kdmodels.knowledge.Knowledge.of`.
    """

    images: Tensor
    rows: Tensor
    labels: Tensor
    teacher: dict[str, Tensor]
    mixed: dict[str, Tensor]


@dataclass(frozen=True)
class Batches:
    """A split as its epochs show it, a batch at a time on the device."""

    split: Split
    source: Source = None
    augmentation: Augmentation = NONE
    device: torch.device = CPU

    def batch(self, rows: Tensor, epoch: int = 1) -> Batch:
        """The examples of these rows, of any shape (...), as an epoch, counted from 1, shows them."""
        view = self.augmentation.view(self.split, epoch)
        images = view.batch(rows).to(self.device)
        teacher = {} if self.source is None else self._knowledge(self.source, view.number).of(rows, images)
        mixed = {name: values.to(self.device) for name, values in view.mixed(rows).items()}
        return Batch(images, rows.to(self.device), at_rows(self.split.labels, rows).to(self.device), teacher, mixed)

    @staticmethod
    def _knowledge(source: Sequence[Knowledge] | LiveTeacher, view: int) -> Knowledge | LiveTeacher:
        return source if isinstance(source, LiveTeacher) else source[view]


def batch_sizes(examples: int, batch: int) -> list[int]:
    """Return the sizes of an epoch's batches: ceil(examples / batch) of them, which differ by at most one.

    A short last batch would weigh as much as a full one: each of its examples would count for many, and a loss that
    compares the examples of a batch would have few to compare. Batches of one are avoided where `batch` is above one,
    because batch norm cannot learn from a single example.

    >>> batch_sizes(10, 4), batch_sizes(9, 4), batch_sizes(5, 2), batch_sizes(3, 1)
    ([4, 3, 3], [3, 3, 3], [3, 2], [1, 1, 1])
    """
    count = ceil(examples / batch)
    if batch > 1:
        count = min(count, max(examples // 2, 1))
    size, larger = divmod(examples, count)
    return [size + 1] * larger + [size] * (count - larger)


def class_balance(labels: Tensor) -> Tensor:
    """What an example of each class (K,) weighs where all classes count alike: N / (K n_c), whose mean over N is 1.

    Examples without a label, -1, do not count, nor do classes without an example.

    >>> class_balance(torch.tensor([0, 0, 0, 1, -1]))
    tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(labels[labels >= 0]).double()
    return (counts.sum() / (counts.count_nonzero() * counts)).nan_to_num(posinf=0).float()


def order(examples: int, seed: int, epoch: int, chances: Tensor | None = None) -> Tensor:
    """(N,): the examples of an epoch in their order; each once, or, with chances (N,), drawn with replacement."""
    generator = stream(seed, "order", epoch)
    if chances is None:
        return torch.randperm(examples, generator=generator)
    # In float32 the running sum of over a million chances no longer moves, and the last rows are never drawn.
    return torch.multinomial(chances.double(), examples, replacement=True, generator=generator)
