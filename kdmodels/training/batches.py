"""Batches: images, labels, and what the teacher says of just those images."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kdmodels.data.augment import NONE, Augmentation
from kdmodels.data.dataset import Split
from kdmodels.knowledge import Knowledge, LiveTeacher

Source = Sequence[Knowledge] | LiveTeacher | None
"""A teacher's stored knowledge, one a view; a teacher that is asked at every batch; or no teacher."""


@dataclass(frozen=True)
class Batch:
    """Images (..., C, H, W), their labels (...), and by name what the teacher says of them and what is mixed in.

    `mixed` is as `kdmodels.data.augment.View.mixed` gives it; `teacher` as `kdmodels.knowledge.Knowledge.of`.
    """

    images: Tensor
    labels: Tensor
    teacher: dict[str, Tensor]
    mixed: dict[str, Tensor]


@dataclass(frozen=True)
class Batches:
    """A split as its epochs show it."""

    split: Split
    source: Source = None
    augmentation: Augmentation = NONE

    def batch(self, rows: Tensor, epoch: int = 1) -> Batch:
        """The examples of these rows, of any shape (...), as an epoch, counted from 1, shows them."""
        view = self.augmentation.view(self.split, epoch)
        images = view.batch(rows)
        teacher = {} if self.source is None else self._knowledge(self.source, view.number).of(rows, images)
        return Batch(images, self.split.labels[rows], teacher, view.mixed(rows))

    @staticmethod
    def _knowledge(source: Sequence[Knowledge] | LiveTeacher, view: int) -> Knowledge | LiveTeacher:
        return source if isinstance(source, LiveTeacher) else source[view]
