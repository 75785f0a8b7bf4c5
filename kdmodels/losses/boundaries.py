"""Losses on the signs of the teacher's features: activation boundaries, and the overhaul of feature distillation."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdmodels.losses.features import require_same_number
from kdmodels.losses.numerics import full_precision, require_same_shape
from kdmodels.losses.regressor import regressed
from kdmodels.losses.term_loss import Builder, on_all_places

SCALE = 3 / 1000  # factor of the authors' code, beside the sum over all values of a map


def activation_boundaries(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, margin: float = 1.0
) -> Tensor:
    """Return how far the student's values are from the teacher's side of zero, squared and summed.

    A student's value should be at least `margin` where the teacher's value is positive, and at most `-margin`
    elsewhere. The square of the missing distance is summed over all values of a map and multiplied by 3 / 1000. The
    factor of the last map is 1, and halves from each map to the map before it.

    Only the signs of the teacher's values matter. The teacher's maps can therefore be from before or after a ReLU. The
    student's maps must not end with a ReLU. In experiments, `HintRegressor` first maps the student's features.

    Args:
        student_maps, teacher_maps: Lists of maps (B, C, H, W), from the first to the deepest. Maps at the same index
            have equal shapes. No gradient reaches the teacher.
        margin: Margin, above 0.

    Returns:
        Values of shape (B,).

    Raises:
        ValueError: The lists are empty or differ in length, an entry is not a map, or a pair differs in shape.

    References:
        Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", 2019,
        section 3. Sum, factor and halving are from the released code. The paper sums over the neurons of one layer.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[0.0, 0.0, -2.0]]]]), torch.tensor([[[[3.0, 0.0, -1.0]]]])
        >>> activation_boundaries([student], [teacher])  # 3 / 1000 * (1 + 1 + 0)
        tensor([0.0060])
    """
    values = []
    for student, teacher in _pairs(student_maps, teacher_maps):
        missing = torch.where(teacher > 0, margin - student, margin + student).relu()
        values.append(SCALE * missing.square().sum(dim=(1, 2, 3)))
    return _halved(values)


def overhaul(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Return the partial squared distance between the student's maps and the teacher's maps after a margin ReLU.

    The margin of a channel is the mean of its negative values in the batch, or 0 if the channel has no negative value.
    The margin ReLU replaces smaller values by the margin. Where the teacher's value is positive, the squared difference
    counts. Elsewhere, the squared difference counts only if the student's value is larger. The squares are summed over
    all values of a map. The factor of the last map is 1, and halves from each map to the map before it.

    The value is zero if the maps are equal. If the teacher's maps are from after a ReLU, all margins are 0. In
    experiments, `HintRegressor` first maps the student's features to the teacher's shape.

    Args:
        student_maps, teacher_maps: Lists of maps (B, C, H, W), from the first to the deepest. Maps at the same index
            have equal shapes. No gradient reaches the teacher.

    Returns:
        A scalar, one value per batch.

    Raises:
        ValueError: The lists are empty or differ in length, an entry is not a map, or a pair differs in shape.

    References:
        Heo et al., "A Comprehensive Overhaul of Feature Distillation", 2019, section 3. Sum and halving are from the
        released code, which computes the margins from the batch norm before the ReLU. The paper allows both ways.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, -4.0, 0.0]]]]), torch.tensor([[[[3.0, -1.0, -3.0]]]])
        >>> overhaul([student], [teacher])  # the margin is -2: (1 - 3) ** 2 + 0 + (0 + 2) ** 2
        tensor(8.)
    """
    values = []
    for student, teacher in _pairs(student_maps, teacher_maps):
        target = torch.maximum(teacher, _negative_means(teacher))
        counts = (teacher > 0) | (student > target)
        values.append(torch.where(counts, student - target, 0.0).square().sum(dim=(1, 2, 3)))
    return _halved(values).mean()


def _pairs(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the maps in pairs of student and teacher, in float32 or wider. The teacher's maps are detached.

    Raises:
        ValueError: The lists are empty or differ in length, an entry is not a map, or a pair differs in shape.
    """
    require_same_number(student_maps, teacher_maps)
    pairs = [
        (full_precision(student), full_precision(teacher.detach()))
        for student, teacher in zip(student_maps, teacher_maps, strict=True)
    ]
    for student, teacher in pairs:
        require_same_shape(student, teacher)
        if student.ndim != 4:
            raise ValueError(f"expected maps (B, C, H, W), got student {tuple(student.shape)}")
    return pairs


def _halved(values: Sequence[Tensor]) -> Tensor:
    """Return a weighted sum. The factor of the last value is 1, and halves from each value to the value before it."""
    last = len(values) - 1
    return torch.stack([value / 2 ** (last - number) for number, value in enumerate(values)]).sum(dim=0)


def _negative_means(maps: Tensor) -> Tensor:
    """Return the mean of the negative values of each channel of maps (B, C, H, W), (C, 1, 1)."""
    number = (maps < 0).sum(dim=(0, 2, 3), keepdim=True)
    return (maps.clamp(max=0).sum(dim=(0, 2, 3), keepdim=True) / number.clamp(min=1))[0]


BUILDERS: Mapping[str, Builder] = {
    "activation_boundaries": regressed(on_all_places(activation_boundaries)),
    "overhaul": regressed(on_all_places(overhaul)),
}
