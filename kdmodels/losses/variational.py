"""Variational information distillation."""

from math import expm1, log

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from kdmodels.losses.features import match_size, require_same_rank
from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded

INITIAL_VARIANCE = 5.0
LEAST_VARIANCE = 1e-5


class VariationalInformation(nn.Module):
    """Negative log-likelihood of the teacher's features under a Gaussian whose mean the student's features predict.

    ½ ((μ(F_s) - F_t)² / σ² + log σ²), averaged over features. The mean μ is a network of three 1x1 convolutions, or a
    linear map for embeddings; the variance σ², one a channel, is a softplus and more than 1e-5. Both are trained and
    checkpointed with the student: σ left fixed, the loss is a mean squared difference in disguise. They are no part
    of the exported model. The larger map is pooled to the smaller. Where the prediction is exact it is the mean of
    ½ log σ², at first ½ log 5, which may become negative; elsewhere it is more.

    Args:
        student_shape, teacher_shape: of one example's features: (channels, height, width) or (width,).

    Raises:
        ValueError: one has the shape of a map and the other has not; on use, the features are not of that kind.

    References:
        Ahn et al., "Variational Information Distillation for Knowledge Transfer", 2019, section 2.2; the initial
        variance of 5 after Tian et al., "Contrastive Representation Distillation", 2020.

    Example:
        >>> import torch
        >>> VariationalInformation((4, 8, 8), (6, 4, 4))(torch.ones(2, 4, 8, 8), torch.ones(2, 6, 4, 4)).shape
        torch.Size([2])
    """

    def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
        super().__init__()
        require_same_rank(student_shape, teacher_shape)
        inputs, outputs = student_shape[0], teacher_shape[0]
        self.maps = len(student_shape) == 3
        self.mean = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size=1, bias=False),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, kernel_size=1, bias=False),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, kernel_size=1, bias=False),
            )
            if self.maps
            else nn.Linear(inputs, outputs)
        )
        self.raw_variance = nn.Parameter(torch.empty(outputs))  # before the softplus
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the variance to its initial value."""
        nn.init.constant_(self.raw_variance, log(expm1(INITIAL_VARIANCE - LEAST_VARIANCE)))

    def reset(self, generator: Generator) -> None:
        """Set the variance to its initial value: of what this module itself holds, nothing is drawn."""
        self.reset_parameters()

    @property
    def variance(self) -> Tensor:
        """(C,), one a channel of the teacher."""
        return F.softplus(full_precision(self.raw_variance)) + LEAST_VARIANCE

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        """(B,), nats per feature.

        Args:
            student_features, teacher_features: (B, C, H, W) or (B, D). No gradient reaches the teacher.
        """
        student, teacher = student_features.to(self.raw_variance.dtype), full_precision(teacher_features.detach())
        if self.maps:
            student, teacher = match_size(student, teacher)
        with unrounded(student):
            mean = full_precision(self.mean(student))
        require_same_shape(mean, teacher)
        variance = self.variance.view(-1, 1, 1) if self.maps else self.variance
        return ((mean - teacher).square() / variance + variance.log()).flatten(1).mean(dim=1) / 2
