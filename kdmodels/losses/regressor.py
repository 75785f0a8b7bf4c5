"""Regressors: trained layers that map the student's features to the shape of the teacher's features."""

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.losses.numerics import unrounded
from kdmodels.losses.term_loss import Builder, LossInputs, LossSetting, TermLoss
from kdmodels.networks.batch_norm import BatchNorm2d


class HintRegressor(nn.Sequential):
    """Regressor that maps the student's channels to the teacher's channels.

    The regressor is a 1x1 convolution for maps or a linear map for embeddings, followed by batch norm. Height and width
    do not change. To make the sizes of two maps equal, use `match_size`.

    In training mode, adding a constant per channel to the student's features does not change the result. Multiplying
    the features by a positive number does not change the result either, except for batch norm's epsilon. The regressor
    is trained and checkpointed with the student and is not part of the exported model.

    Args:
        student_shape, teacher_shape: Shapes of one example's features, (C, H, W) or (D,).

    Raises:
        ValueError: One shape belongs to a map and the other to an embedding. In a call in training mode, the features
            have one value per channel, which batch norm cannot normalise.

    References:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, section 2.2.
        Tian et al., "Contrastive Representation Distillation", 2020 (batch norm).
    """

    def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
        require_same_rank(student_shape, teacher_shape)
        inputs, outputs = student_shape[0], teacher_shape[0]
        if len(student_shape) == 3:
            super().__init__(nn.Conv2d(inputs, outputs, kernel_size=1, bias=False), BatchNorm2d(outputs))
        else:
            super().__init__(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, student_features: Tensor) -> Tensor:
        """Return the regressed features.

        Args:
            student_features: Features of shape (B, C_s, H, W) or (B, D_s).

        Returns:
            Features of shape (B, C_t, H, W) or (B, D_t).
        """
        if self.training:
            require_several(student_features.shape)
        with unrounded(student_features):
            return super().forward(student_features.to(next(self.parameters()).dtype))  # type: ignore[no-untyped-call]


def regressed(builder: Builder, *, unless_same_channels: bool = False) -> Builder:
    """Return the builder of a loss that compares the student's regressed features with the teacher's features.

    Args:
        builder: Builder of a loss that compares two lists of features and has no modules.
        unless_same_channels: Whether to omit the regressors if, in every pair of compared features, student and teacher
            have the same number of channels.
    """

    def build(setting: LossSetting) -> TermLoss:
        loss = builder(setting)
        if unless_same_channels and setting.same_channels:
            return loss

        def compare(inputs: LossInputs) -> Tensor:
            pairs = zip(inputs.student_features, inputs.teacher_features, strict=True)
            matched = [match_size(*pair) if pair[0].ndim == 4 else pair for pair in pairs]
            student, teacher = map(list, zip(*matched, strict=True))
            return loss.value(inputs._replace(student_features=student, teacher_features=teacher), None)

        def value(inputs: LossInputs, regressors: nn.ModuleList) -> Tensor:
            places = zip(regressors, inputs.student_features, strict=True)
            return compare(inputs._replace(student_features=[regressor(features) for regressor, features in places]))

        return TermLoss(value, nn.ModuleList(HintRegressor(*pair) for pair in setting.pairs), compare=compare)

    return build


def match_size(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Pool two maps to the same height and width.

    The new height is the smaller of the two heights, and the new width is the smaller of the two widths. The pooling is
    adaptive average pooling.

    Args:
        student_map, teacher_map: Maps of shape (B, C, H, W); C, H and W may differ.

    Returns:
        The student's and the teacher's map, (B, C, H', W') each.

    Raises:
        ValueError: The shapes are not (B, C, H, W), or batch sizes differ.

    Example:
        >>> import torch
        >>> one, other = match_size(torch.ones(2, 3, 8, 4), torch.ones(2, 5, 4, 8))
        >>> tuple(one.shape), tuple(other.shape)
        ((2, 3, 4, 4), (2, 5, 4, 4))
    """
    if student_map.ndim != 4 or teacher_map.ndim != 4 or len(student_map) != len(teacher_map):
        shapes = f"student {tuple(student_map.shape)} and teacher {tuple(teacher_map.shape)}"
        raise ValueError(f"expected maps (B, C, H, W) with equal B, got {shapes}")
    (height, width), (other_height, other_width) = student_map.shape[2:], teacher_map.shape[2:]
    size = (min(height, other_height), min(width, other_width))
    student, teacher = (
        each if each.shape[2:] == size else F.adaptive_avg_pool2d(each, size) for each in (student_map, teacher_map)
    )
    return student, teacher


def require_several(shape: Sequence[int]) -> None:
    """Raise ValueError if features (B, C, ...) have one value per channel. Batch norm cannot train on such features."""
    if prod(shape) == shape[1]:
        line = f"features {tuple(shape)} have one value per channel. Batch norm can't normalise a single value"
        raise ValueError(f"{line}. Allowed: 2 or more examples")


def require_same_rank(student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
    """Raise ValueError unless both shapes are maps (C, H, W) or both are embeddings (D,)."""
    if len(student_shape) not in (1, 3) or len(student_shape) != len(teacher_shape):
        raise ValueError(f"features of shape {student_shape} can't be regressed to {teacher_shape}")
