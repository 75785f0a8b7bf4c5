"""Batches of images, with their labels and the teacher's outputs for these images.

A view is one augmented version of all images of a split. Each epoch uses one view.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from kdmodels.data.augment import NONE, Augmentation
from kdmodels.data.split import Split, at_rows
from kdmodels.device import CPU
from kdmodels.knowledge import Knowledge, LiveTeacher
from kdmodels.randomness import generator_for

Source = Sequence[Knowledge] | LiveTeacher | None
"""The source of the teacher's outputs: stored outputs per view, a teacher that runs on every batch, or no teacher."""


class Batch(NamedTuple):
    """The data of the examples of one training step.

    The leading dimensions `...` are (B,) for one replica, or (S, B) for S replicas. A replica is a network trained with
    one seed.

    Attributes:
        images: Images of shape (..., C, H, W), float32 in [0, 1].
        labels: Class indices of shape (...). -1 marks an unknown label.
        indices: Indices of the examples in their split, (...).
        teacher: The teacher's tensors by name, as `kdmodels.knowledge.Knowledge.of` returns them. `logits` are
            (..., K), or (..., M, K) for an ensemble of M teachers. The name of features, (..., D) or (..., C, H, W), is
            the place in the teacher where they are taken. The mapping is empty if there is no teacher.
        mix: Data of mixed images, as `kdmodels.data.augment.View.mixed` returns them. A mixed image is the weighted
            mean of an original image and a partner image. `labels` (...) holds the labels of the partners, and `share`
            (...) the weights of the originals. The mapping is empty if images are not mixed.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    teacher: dict[str, Tensor]
    mix: dict[str, Tensor]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a batch in which a function is applied to every tensor."""
        return Batch(
            function(self.images),
            function(self.labels),
            function(self.indices),
            {name: function(tensor) for name, tensor in self.teacher.items()},
            {name: function(tensor) for name, tensor in self.mix.items()},
        )


@dataclass(frozen=True)
class Batches:
    """Source of the batches of a split. It augments images and adds the teacher's outputs.

    Attributes:
        split: The split from which examples are taken.
        source: Source of the teacher's outputs. `None` if there is no teacher.
        augmentation: Augmentation of the images.
        device: Device of the batches.
        rows: Indices of the examples that are used, (N,). `None` if all examples of the split are used.
    """

    split: Split
    source: Source = None
    augmentation: Augmentation = NONE
    device: torch.device = CPU
    rows: Tensor | None = None

    @property
    def examples(self) -> Tensor:
        """Indices of the examples that are used, (N,)."""
        return torch.arange(len(self.split)) if self.rows is None else self.rows

    def batch(self, rows: Tensor, epoch: int = 1) -> Batch:
        """Return a batch of examples on `device`, with images from the view of an epoch.

        Args:
            rows: Indices of the examples in the split, (...).
            epoch: Number of the epoch, counted from 1.
        """
        view = self.augmentation.view(self.split, epoch)
        images = view.batch(rows).to(self.device)
        teacher = {} if self.source is None else self._knowledge(self.source, view.number).of(rows, images)
        mix = {name: values.to(self.device) for name, values in view.mixed(rows).items()}
        return Batch(images, at_rows(self.split.labels, rows).to(self.device), rows.to(self.device), teacher, mix)

    @staticmethod
    def _knowledge(source: Sequence[Knowledge] | LiveTeacher, view: int) -> Knowledge | LiveTeacher:
        return source if isinstance(source, LiveTeacher) else source[view]


def batch_sizes(examples: int, batch: int) -> list[int]:
    """Return the sizes of an epoch's ceil(examples / batch) batches. The sizes differ by at most 1.

    A short last batch would have two disadvantages: its examples would have more weight than other examples, and losses
    that compare examples would have few examples to compare. If `batch` is above 1, batches of one example are avoided,
    because batch norm cannot train on a single example.

    Args:
        examples: Number of examples of the epoch.
        batch: Maximum number of examples in a batch. Exception: if `batch` is 2 and `examples` is odd, one batch can
            have 3 examples.

    >>> batch_sizes(10, 4), batch_sizes(9, 4), batch_sizes(5, 2), batch_sizes(3, 1)
    ([4, 3, 3], [3, 3, 3], [3, 2], [1, 1, 1])
    """
    count = ceil(examples / batch)
    if batch > 1:
        count = min(count, max(examples // 2, 1))
    size, larger = divmod(examples, count)
    return [size + 1] * larger + [size] * (count - larger)


def class_balance(labels: Tensor) -> Tensor:
    """Return one weight per class, so that the examples of all classes have the same total weight.

    The weight of a class is N / (K n_c), where N is the number of labelled examples, n_c is the number of labelled
    examples in the class, and K is the number of classes with examples. The mean weight of the labelled examples is
    then 1. A class without examples has weight 0.

    Args:
        labels: Labels of the examples, (N,). -1 marks an unknown label.

    >>> class_balance(torch.tensor([0, 0, 0, 1, -1]))
    tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(labels[labels >= 0]).double()
    return (counts.sum() / (counts.count_nonzero() * counts)).nan_to_num(posinf=0).float()


def order(examples: int, seed: int, epoch: int, chances: Tensor | None = None) -> Tensor:
    """Return the order of the examples in an epoch, as indices (N,).

    Args:
        examples: Number of examples, N.
        seed: Seed of the replica.
        epoch: Number of the epoch, counted from 1.
        chances: Weights with which the examples are drawn with replacement, (N,). If None, the order contains each
            example once.
    """
    generator = generator_for(seed, "order", epoch)
    if chances is None:
        return torch.randperm(examples, generator=generator)
    # In float32, the running sum of over a million chances stops growing, and the last rows would never be drawn.
    return torch.multinomial(chances.double(), examples, replacement=True, generator=generator)
