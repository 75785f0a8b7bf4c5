"""Knowledge review: a module that fuses maps of the student, and a loss that compares them with the teacher's maps."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.losses.features import require_same_number
from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded
from kdmodels.losses.regressor import require_several
from kdmodels.losses.term_loss import Builder, LossInputs, LossSetting, TermLoss
from kdmodels.networks.batch_norm import BatchNorm2d

LEVELS = (4, 2, 1)
"""Side lengths of the pooled maps. Each map has half the weight of the map before it."""


def review(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Return the mean squared difference of maps, averaged over several pooled sizes and summed over the list.

    Maps are compared at their original size, and after pooling to 4x4, 2x2 and 1x1. Pooled sizes that are not smaller
    than the shorter side of the map are left out. From the original size to the smallest, the weight halves with each
    size. The weights add up to 1.

    The value is zero if and only if the maps are equal. Adding the same map to both does not change the value. The
    paper calls this loss the hierarchical context loss (HCL).

    Args:
        student_maps, teacher_maps: Lists of maps (B, C, H, W). Maps at the same index form a pair and have equal
            shapes. The student's maps come from `ReviewFusion`. No gradient reaches the teacher.

    Returns:
        Values of shape (B,).

    Raises:
        ValueError: The lists are empty or differ in length, an entry is not a map, or a pair differs in shape.

    References:
        Chen et al., "Distilling Knowledge via Knowledge Review", 2021, section 3.4. The weights are from the authors'
        code.

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
        raise ValueError(f"expected maps (B, C, H, W), got student {tuple(student.shape)}")
    difference = full_precision(student) - full_precision(teacher.detach())  # pooling is linear, so pool the difference
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
    """Fusion of each student map with the deeper student maps. The fused maps have the teacher's channels and sizes.

    The fusion has one stage per map and runs from the deepest map to the first. Each stage works as follows:

    1. Convert the student's map to `width` channels.
    2. Resize the fused map of the previous, deeper stage to the size of the student's map.
    3. Compute attention weights at each position from both maps, and add the weighted maps.
    4. Resize the sum to the size of the teacher's map, and pass it to the next stage.
    5. Return a 3x3 convolution of the sum, which has the teacher's channels.

    In training mode, adding a constant per channel to a map does not change the result. Multiplying a map by a positive
    number does not change the result either, except for batch norm's epsilon. The fusion is trained and checkpointed
    with the student and is not part of the exported model. The paper calls the method attention-based fusion (ABF).

    Args:
        student_shapes, teacher_shapes: Shapes of one example's maps (C, H, W), from the first to the deepest.
        width: Number of channels of the fused maps. If None, the fused maps have as many channels as the student's
            deepest map, but at most 512, as in the authors' code.

    Raises:
        ValueError: The lists are empty or differ in length, or a shape is not (C, H, W). In a call, the shape of a map
            differs from `student_shapes`. In a call in training mode, the batch has one example, and a map of student
            or teacher is 1x1. Batch norm cannot normalise such a map.

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
            both = f"student {list(student_shapes)} and teacher {list(teacher_shapes)}"
            raise ValueError(f"expected pairs of maps (C, H, W), got {both}")
        self.shapes = [tuple(shape) for shape in student_shapes]
        width = width or min(512, student_shapes[-1][0])
        deepest = len(student_shapes) - 1
        self.stages = nn.ModuleList(
            _Stage(student[0], teacher, width, fuses=number != deepest)
            for number, (student, teacher) in enumerate(zip(student_shapes, teacher_shapes, strict=True))
        )

    def forward(self, student_maps: Sequence[Tensor]) -> list[Tensor]:
        """Return one fused map (B, C_t, H_t, W_t) per student map, from the first to the deepest.

        Args:
            student_maps: Maps of shape (B, C_s, H_s, W_s), from the first to the deepest.
        """
        if [tuple(each.shape[1:]) for each in student_maps] != self.shapes:
            shapes = [tuple(each.shape) for each in student_maps]
            raise ValueError(f"expected batches of maps {self.shapes}, got {shapes}")
        outputs: list[Tensor] = []
        deeper: Tensor | None = None
        with unrounded(student_maps[0]):
            for stage, student_map in zip(reversed(self.stages), reversed(student_maps), strict=True):
                output, deeper = stage(student_map, deeper)
                outputs.insert(0, output)
        return outputs


class _Stage(nn.Module):
    """Stage of `ReviewFusion` for one map. The stage of the deepest map fuses nothing, because no map is deeper."""

    def __init__(self, channels: int, teacher_shape: tuple[int, ...], width: int, *, fuses: bool) -> None:
        super().__init__()
        outputs, *self.size = teacher_shape
        self.reduce = nn.Sequential(nn.Conv2d(channels, width, kernel_size=1, bias=False), BatchNorm2d(width))
        self.attention = nn.Conv2d(2 * width, 2, kernel_size=1) if fuses else None
        self.expand = nn.Sequential(
            nn.Conv2d(width, outputs, kernel_size=3, padding=1, bias=False), BatchNorm2d(outputs)
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


def _build(setting: LossSetting) -> TermLoss:
    def value(inputs: LossInputs, fusion: ReviewFusion) -> Tensor:
        return review(fusion(inputs.student_features), inputs.teacher_features)

    width = int(setting.number("width")) if "width" in setting.hyperparameters else None
    return TermLoss(value, ReviewFusion(setting.student_shapes, setting.teacher_shapes, width=width))


BUILDERS: Mapping[str, Builder] = {"review": _build}
