"""Simple recipe distillation with a linear projector, batch norm and a logarithm."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded
from kdmodels.losses.relations import require_embeddings
from kdmodels.losses.term_loss import Builder, on_modules


class SimpleRecipe(nn.Module):
    """Logarithm of the summed fourth powers of the differences between normalised embeddings.

    The value is log(Σ |BN(W f_s) - BN(f_t)|⁴ + 1e-5), for embeddings f_s of the student and f_t of the teacher. The sum
    is over all features of all examples of the batch, and the loss returns one value per batch. If the batch size
    doubles, the value grows by about log 2, and the size of the gradient stays about the same.

    W is a linear map without a bias, because batch norm would remove the bias. BN is batch norm without affine
    parameters. W and the running statistics are checkpointed with the student and are not part of the exported model.

    In training mode, adding a constant to the teacher's features does not change the value. Multiplying the features by
    a positive number does not change the value either, except for batch norm's epsilon. If the normalised embeddings
    are equal, the value is log 1e-5, which is the minimum.

    Args:
        student_width, teacher_width: Widths of the embeddings, D_s and D_t.

    Raises:
        ValueError: In a call, the arguments are not two batches of embeddings of equal batch size, or the width of
            the teacher's embeddings is not D_t. In a call in training mode, the batch has one example, which batch
            norm cannot normalise.

    References:
        Miles, Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", 2024, section 3.

    Example:
        >>> import torch
        >>> SimpleRecipe(2, 3)(torch.zeros(4, 2), torch.ones(4, 3))
        tensor(-11.5129, grad_fn=<LogBackward0>)
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.projector = nn.Linear(student_width, teacher_width, bias=False)
        self.student_norm = nn.BatchNorm1d(teacher_width, eps=1e-4, affine=False)  # epsilon of the authors' code
        self.teacher_norm = nn.BatchNorm1d(teacher_width, eps=1e-4, affine=False)

    def forward(self, student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
        """Return the loss of the batch, a scalar.

        Args:
            student_embeddings: Embeddings of shape (B, D_s).
            teacher_embeddings: Embeddings of shape (B, D_t). No gradient reaches the teacher.
        """
        require_embeddings(student_embeddings, teacher_embeddings)
        if self.training and len(student_embeddings) == 1:
            raise ValueError("batch norm can't normalise a batch of one example. Allowed: 2 or more examples")
        weight = self.projector.weight
        with unrounded(student_embeddings):
            student = full_precision(self.projector(student_embeddings.to(weight.dtype)))
        teacher = teacher_embeddings.detach().to(student.dtype)
        require_same_shape(student, teacher)
        difference = self.student_norm(student) - self.teacher_norm(teacher)
        return torch.log(full_precision(difference).square().square().sum() + 1e-5)


BUILDERS: Mapping[str, Builder] = {
    "simple_recipe": lambda setting: on_modules(
        SimpleRecipe(student[0], teacher[0]) for student, teacher in setting.pairs
    ),
}
