"""The construction of losses for the feature shapes of a student and a teacher."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from torch import Tensor

from kdmodels.experiment.terms import Term
from kdmodels.losses.term_loss import Builder, LossSetting, Shape, TermLoss
from kdmodels.losses.user_loss import builder_of


def build_loss(term: Term, pairs: Sequence[tuple[Shape, Shape]], *, classes: int, labels: Tensor) -> TermLoss:
    """Build the loss of a term, which is a loss of the catalogue or the user's own.

    Args:
        term: The term, with its loss and hyperparameters.
        pairs: For each place where features are taken, the shapes of the student's and the teacher's features, as
            `taken_shape` returns them.
        classes: Number of classes, K.
        labels: Labels of the training split, (N,). -1 marks an unknown label.

    Raises:
        ValueError: The features cannot be compared.
    """
    student_shapes, teacher_shapes = [student for student, _ in pairs], [teacher for _, teacher in pairs]
    loss = _builder(term)(LossSetting(term.hyperparameters, student_shapes, teacher_shapes, classes, labels))
    return replace(loss, per_batch=loss.per_batch or term.row.per_batch)


def _builder(term: Term) -> Builder:
    if term.inputs is not None:
        return builder_of(term.loss, term.inputs)
    builder: Builder = import_module(f"kdmodels.losses.{term.row.file}").BUILDERS[term.loss]
    return builder


def taken(term: Term, features: Tensor) -> Tensor:
    """Convert features to the shape that the loss of a term takes.

    If the loss takes embeddings, maps (B, C, H, W) are averaged over their positions, which gives embeddings (B, C).
    All other features are returned unchanged.
    """
    return features.mean(dim=(2, 3)) if term.row.takes == "embeddings" and features.ndim == 4 else features


def taken_shape(term: Term, shape: Shape) -> Shape:
    """Return the shape of one example's features after `taken`. `shape` is the shape before."""
    return shape[:1] if term.row.takes == "embeddings" else shape
