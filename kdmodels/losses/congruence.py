"""Correlation congruence, as released by its authors."""

from collections.abc import Mapping

from torch import Tensor, nn

from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded
from kdmodels.losses.relations import require_embeddings
from kdmodels.losses.term_loss import Builder, on_modules


class CorrelationCongruence(nn.Module):
    """Products of the absolute differences of consecutive examples, between projections of student and teacher.

    Two trained linear layers project the embeddings of student and teacher to `width` numbers. For each example, the
    absolute differences between both projections are a vector. The value is the inner product of the vectors of
    consecutive examples of the batch, averaged over these pairs. The value is zero if the projections are equal. A
    single example has no pair, and its value is zero.

    The linear layers are trained and checkpointed with the student and are not part of the exported model.

    Args:
        student_width, teacher_width: Widths of the embeddings, D_s and D_t.
        width: Width of the projections.

    Raises:
        ValueError: In a call, the arguments are not two batches of embeddings of equal batch size.

    References:
        Peng et al., "Correlation Congruence for Knowledge Distillation", 2019. This class follows the code that the
        authors gave to Tian et al., "Contrastive Representation Distillation", 2020. The paper describes another loss:
        the squared difference between the matrices of all pairwise correlations, by a kernel.

    Example:
        >>> import torch
        >>> CorrelationCongruence(2, 3)(torch.ones(4, 2), torch.ones(4, 3)).shape
        torch.Size([])
    """

    def __init__(self, student_width: int, teacher_width: int, *, width: int = 128) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(student_width, width), nn.Linear(teacher_width, width)

    def forward(self, student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
        """Return the loss of the batch, a scalar.

        Args:
            student_embeddings: Embeddings of shape (B, D_s).
            teacher_embeddings: Embeddings of shape (B, D_t). No gradient reaches the teacher.
        """
        require_embeddings(student_embeddings, teacher_embeddings)
        dtype = self.student.weight.dtype
        with unrounded(student_embeddings):
            student = self.student(student_embeddings.to(dtype))
            teacher = self.teacher(teacher_embeddings.detach().to(dtype))
        return correlation_congruence(student, teacher)


def correlation_congruence(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Return the mean inner product of the absolute differences of consecutive examples.

    `CorrelationCongruence` describes the loss. The gradient reaches both arguments.

    Args:
        student_embeddings, teacher_embeddings: Projected embeddings of shape (B, D).

    Returns:
        A scalar, one value per batch.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> import torch
        >>> correlation_congruence(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [5.0]]))
        tensor(3.)
    """
    require_same_shape(student_embeddings, teacher_embeddings)
    difference = (full_precision(student_embeddings) - full_precision(teacher_embeddings)).abs()
    return (difference[:-1] * difference[1:]).sum() / max(len(difference) - 1, 1)


BUILDERS: Mapping[str, Builder] = {
    "correlation_congruence": lambda setting: on_modules(
        CorrelationCongruence(student[0], teacher[0], width=int(setting.number("width")))
        for student, teacher in setting.pairs
    ),
}
