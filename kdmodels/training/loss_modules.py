"""The construction of losses for the feature shapes of a student and a teacher."""

from collections.abc import Sequence
from importlib import import_module

from torch import Tensor

from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.terms import Term
from kdmodels.losses.term_loss import Builder, LossSetting, Shape, TermLoss


def build_loss(term: Term, pairs: Sequence[tuple[Shape, Shape]], *, classes: int, labels: Tensor) -> TermLoss:
    """Build the loss of a term. The catalogue names the module that contains the builder.

    Args:
        term: The term, with its loss and hyperparameters.
        pairs: For each place where features are taken, the shape of the student's and of the teacher's features, after
            `taken_shape`.
        classes: Number of classes, K.
        labels: Labels of the training split, (N,). -1 marks an unknown label.

    Raises:
        ValueError: The features cannot be compared.
    """
    builder: Builder = import_module(f"kdmodels.losses.{LOSSES[term.loss].file}").BUILDERS[term.loss]
    student_shapes, teacher_shapes = [student for student, _ in pairs], [teacher for _, teacher in pairs]
    return builder(LossSetting(term.hyperparameters, student_shapes, teacher_shapes, classes, labels))


def taken(loss: str, features: Tensor) -> Tensor:
    """Convert features to the shape that a loss takes.

    If the loss takes embeddings, maps (B, C, H, W) are averaged over their positions, which gives embeddings (B, C).
    All other features are returned unchanged.
    """
    return features.mean(dim=(2, 3)) if LOSSES[loss].takes == "embeddings" and features.ndim == 4 else features


def taken_shape(loss: str, shape: Shape) -> Shape:
    """Return the shape of one example's features after `taken`. `shape` is the shape before."""
    return shape[:1] if LOSSES[loss].takes == "embeddings" else shape
