"""Losses on feature maps and embeddings."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.losses.logits import require_same_shape


def hint(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean squared difference of features, the student's already regressed to the teacher's shape.

    Args:
        student_features, teacher_features: (B, ...), equal shapes. No gradient reaches the teacher.

    Returns:
        (B,).

    Raises:
        ValueError: the shapes differ.

    References:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, section 2.2.

    Example:
        >>> import torch
        >>> hint(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]]))
        tensor([2.])
    """
    require_same_shape(student_features, teacher_features)
    return F.mse_loss(student_features, teacher_features.detach(), reduction="none").flatten(1).mean(dim=1)


class HintRegressor(nn.Sequential):
    """Maps the student's features to the teacher's shape: a 1x1 convolution (or linear map) and batch norm.

    It is trained and checkpointed with the student, and is no part of the exported model.

    Args:
        student_shape, teacher_shape: of one example's features: (channels, height, width) or (width,).

    Raises:
        ValueError: the two differ in rank or in height and width.

    References:
        Romero et al., 2015, section 2.2; batch norm after Tian et al., "Contrastive Representation Distillation", 2020.
    """

    def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
        if len(student_shape) not in (1, 3) or student_shape[1:] != teacher_shape[1:]:
            raise ValueError(f"features of shape {student_shape} can't be regressed to {teacher_shape}")
        inputs, outputs = student_shape[0], teacher_shape[0]
        if len(student_shape) == 3:
            super().__init__(nn.Conv2d(inputs, outputs, kernel_size=1, bias=False), nn.BatchNorm2d(outputs))
        else:
            super().__init__(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs))
