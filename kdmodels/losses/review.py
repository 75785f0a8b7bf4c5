"""Knowledge review: the fusion of a student's maps from the deepest to the first, and the loss on what it gives."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.losses.features import require_same_number, require_several
from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded

LEVELS = (4, 2, 1)
"""Side lengths of the pooled maps; each counts half of the one before it."""


def review(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of maps and of their pooled versions, summed over the list.

    A map is compared itself and pooled to those of 4x4, 2x2 and 1x1 that are smaller than its shorter side. It counts
    1, and each of those half of the one before it: 1, 1/2, 1/4 and 1/8 of a map larger than 4x4; 1, 1/2 and 1/4 of
    4x4 or 3x3; 1 and 1/2 of 2x2; divided by their sum. Zero iff the maps agree; unchanged when the same map is added
    to both. In the paper this is the hierarchical context loss (HCL).

    Args:
        student_maps, teacher_maps: lists of (B, C, H, W), equal shapes pair by pair: the student's come from
            `ReviewFusion`. No gradient reaches the teacher.

    Returns:
        (B,).

    Raises:
        ValueError: the lists are empty or differ in length, an entry is not a map, or a pair differs in shape.

    References:
        Chen et al., "Distilling Knowledge via Knowledge Review", 2021, section 3.4; the weights are its authors'.

    Example:
        >>> import torch
        >>> review([torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])], [torch.zeros(1, 1, 2, 2)])  # its mean is 0
        tensor([0.6667])
    """
    require_same_number(student_maps, teacher_maps)
    return torch.stack([_pyramid(*pair) for pair in zip(student_maps, teacher_maps, strict=True)]).sum(dim=0)


def _pyramid(student: Tensor, teacher: Tensor) -> Tensor:
    require_same_shape(student, teacher)
    if student.ndim != 4:
        raise ValueError(f"student {tuple(student.shape)} is not a map (B, C, H, W)")
    difference = full_precision(student) - full_precision(teacher.detach())  # pooling is linear: one pyramid is enough
    value, weight, total = _mean_square(difference), 1.0, 1.0
    for side in LEVELS:
        if side < min(student.shape[2:]):
            weight /= 2
            total += weight
            value = value + weight * _mean_square(F.adaptive_avg_pool2d(difference, side))
    return value / total


def _mean_square(difference: Tensor) -> Tensor:
    return difference.square().mean(dim=(1, 2, 3))


class ReviewFusion(nn.Module):
    """Fuses each map of the student with what the deeper ones gave, in the teacher's channels and sizes.

    From the deepest map to the first: its channels are reduced to `width`; what the deeper maps gave is enlarged to
    its size; the two are added, each weighted position by position by an attention that sees both; the sum takes the
    teacher's size, goes on to the next map, and through a 3x3 convolution becomes the output. When training, it gives
    the same when a map is shifted by a number a channel or, but for batch norm's epsilon, multiplied by a positive
    number; what it gives follows the order of the examples. It is trained and checkpointed with the student, and is no
    part of the exported model. In the paper: attention-based fusion (ABF).

    Args:
        student_shapes, teacher_shapes: of one example's maps (C, H, W), from the first to the deepest.
        width: of the fused maps; None for the channels of the student's deepest map, at most 512, as its authors do.

    Raises:
        ValueError: the lists are empty or differ in length, or a shape is not that of a map; on use, a map is not of
            the shape that was given, or, when training, a batch of one example has a map of 1x1 on either side, one
            value a channel, which batch norm can't normalise.

    References:
        Chen et al., "Distilling Knowledge via Knowledge Review", 2021, section 3.3.

    Example:
        >>> import torch
        >>> fusion = ReviewFusion([(4, 8, 8), (6, 4, 4)], [(5, 16, 16), (7, 4, 4)])
        >>> [tuple(fused.shape) for fused in fusion([torch.ones(2, 4, 8, 8), torch.ones(2, 6, 4, 4)])]
        [(2, 5, 16, 16), (2, 7, 4, 4)]
    """

    def __init__(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        *,
        width: int | None = None,
    ) -> None:
        super().__init__()
        shapes = [*student_shapes, *teacher_shapes]
        if not shapes or len(student_shapes) != len(teacher_shapes) or any(len(shape) != 3 for shape in shapes):
            raise ValueError(f"{list(student_shapes)} and {list(teacher_shapes)} are not pairs of maps (C, H, W)")
        self.shapes = [tuple(shape) for shape in student_shapes]
        width = width or min(512, student_shapes[-1][0])
        deepest = len(student_shapes) - 1
        self.stages = nn.ModuleList(
            _Stage(mine[0], theirs, width, fuses=number != deepest)
            for number, (mine, theirs) in enumerate(zip(student_shapes, teacher_shapes, strict=True))
        )

    def forward(self, student_maps: Sequence[Tensor]) -> list[Tensor]:
        """The fused maps, (B, C_t, H_t, W_t) each, from the first to the deepest."""
        if [tuple(each.shape[1:]) for each in student_maps] != self.shapes:
            raise ValueError(f"maps {[tuple(each.shape) for each in student_maps]} are not batches of {self.shapes}")
        outputs: list[Tensor] = []
        deeper: Tensor | None = None
        with unrounded(student_maps[0]):
            for stage, student_map in zip(reversed(self.stages), reversed(student_maps), strict=True):
                output, deeper = stage(student_map, deeper)
                outputs.insert(0, output)
        return outputs


class _Stage(nn.Module):
    """One map's part of `ReviewFusion`; the deepest has nothing to fuse with."""

    def __init__(self, channels: int, teacher_shape: tuple[int, ...], width: int, *, fuses: bool) -> None:
        super().__init__()
        outputs, *self.size = teacher_shape
        self.reduce = nn.Sequential(nn.Conv2d(channels, width, kernel_size=1, bias=False), nn.BatchNorm2d(width))
        self.attention = nn.Conv2d(2 * width, 2, kernel_size=1) if fuses else None
        self.expand = nn.Sequential(
            nn.Conv2d(width, outputs, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, student_map: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.training:
            require_several(student_map.shape)
            require_several((*student_map.shape[:2], *self.size))
        fused = self.reduce(student_map.to(next(self.parameters()).dtype))  # (B, width, H, W)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, size=fused.shape[2:], mode="nearest")
            weights = self.attention(torch.cat([fused, deeper], dim=1)).sigmoid()  # (B, 2, H, W)
            fused = weights[:, :1] * fused + weights[:, 1:] * deeper
        fused = F.interpolate(fused, size=self.size, mode="nearest")
        return self.expand(fused), fused
