"""The simple recipe of a linear projector, batch norm and a logarithm."""

import torch
from torch import Tensor, nn

from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded
from kdmodels.losses.relations import require_embeddings


class SimpleRecipe(nn.Module):
    """log(Σ |BN(W f_s) - BN(f_t)|⁴ + 1e-5), the sum being over all features of all examples of the batch.

    One value per batch, since the logarithm is taken of the batch's sum: twice the batch adds log 2 and leaves the
    gradient's size. W is linear; a bias would be lost in the batch norm, which has no affine part. W and the running
    statistics are trained and checkpointed with the student, and are no part of the exported model. Unchanged, when
    training, by a shift of the teacher's features and, but for batch norm's epsilon, by a change of their scale.
    Where the two agree it is log 1e-5, its least.

    Args:
        student_width, teacher_width: of the embeddings.

    Raises:
        ValueError: on use, what is given is not two batches of embeddings of the same examples, the teacher's have
            another width, or, when training, the batch is of one, which batch norm can't normalise.

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
        self.student_norm = nn.BatchNorm1d(teacher_width, eps=1e-4, affine=False)  # the epsilon is its authors'
        self.teacher_norm = nn.BatchNorm1d(teacher_width, eps=1e-4, affine=False)

    def forward(self, student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
        """(), one value per batch.

        Args:
            student_embeddings: (B, D_s).
            teacher_embeddings: (B, D_t). No gradient reaches the teacher.
        """
        require_embeddings(student_embeddings, teacher_embeddings)
        if self.training and len(student_embeddings) == 1:
            raise ValueError("a batch of one example can't be normalised; batches of two or more can")
        weight = self.projector.weight
        with unrounded(student_embeddings):
            student = full_precision(self.projector(student_embeddings.to(weight.dtype)))
        teacher = teacher_embeddings.detach().to(student.dtype)
        require_same_shape(student, teacher)
        difference = self.student_norm(student) - self.teacher_norm(teacher)
        return torch.log(full_precision(difference).square().square().sum() + 1e-5)
