"""Variational information distillation."""

from collections.abc import Mapping
from math import expm1, log

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded
from kdmodels.losses.regressor import match_size, require_same_rank
from kdmodels.losses.term_loss import Builder, on_modules

INITIAL_VARIANCE = 5.0
LEAST_VARIANCE = 1e-5


class VariationalInformation(nn.Module):
    """Negative log-likelihood of the teacher's features under a Gaussian with a mean predicted from the student.

    The value is ½ ((μ(F_s) - F_t)² / σ² + log σ²), averaged over the features. F_s are the student's features, and F_t
    the teacher's. The mean μ is a network of three 1x1 convolutions for maps, or a linear map for embeddings. Each
    channel has a variance σ², which is the softplus of a trained parameter plus 1e-5. If two maps differ in size, the
    larger map is pooled to the size of the smaller map.

    With a fixed σ, the loss would be a scaled mean squared difference plus a constant. If the prediction is exact, the
    value is the mean of ½ log σ². This mean is ½ log 5 initially and can become negative.

    The network μ and the variances are trained and checkpointed with the student and are not part of the exported
    model.

    Args:
        student_shape, teacher_shape: Shapes of one example's features, (C, H, W) or (D,).

    Raises:
        ValueError: One shape belongs to a map and the other to an embedding. In a call, the rank of the features
            differs from the rank of these shapes, or the teacher's number of channels differs from `teacher_shape`.

    References:
        Ahn et al., "Variational Information Distillation for Knowledge Transfer", 2019, section 2.2.
        Tian et al., "Contrastive Representation Distillation", 2020 (the initial variance of 5).

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
        """Set the variance to its initial value. The variance is not random, so the generator is not used."""
        self.reset_parameters()

    @property
    def variance(self) -> Tensor:
        """Variance of each channel of the teacher, (C,)."""
        return F.softplus(full_precision(self.raw_variance)) + LEAST_VARIANCE

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        """Return the loss of each example.

        Args:
            student_features, teacher_features: Features of shape (B, C, H, W) or (B, D). No gradient reaches the
                teacher.

        Returns:
            Values of shape (B,), in nats per feature.
        """
        student, teacher = student_features.to(self.raw_variance.dtype), full_precision(teacher_features.detach())
        if self.maps:
            student, teacher = match_size(student, teacher)
        with unrounded(student):
            mean = full_precision(self.mean(student))
        require_same_shape(mean, teacher)
        variance = self.variance.view(-1, 1, 1) if self.maps else self.variance
        return ((mean - teacher).square() / variance + variance.log()).flatten(1).mean(dim=1) / 2


BUILDERS: Mapping[str, Builder] = {
    "variational_information": lambda setting: on_modules(VariationalInformation(*pair) for pair in setting.pairs),
}
