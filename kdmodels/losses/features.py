"""Losses on feature maps and embeddings, whose value of an example depends on that example alone.

Half precision is computed, and returned, as float32, also under autocast, which the modules of this package follow no
more than its functions: a product of features of 1e4 overflows float16. Where a loss divides by a length, its slope is
one over it: of float16 features, lengths below 6e-5 count as zero, so that the gradient can be cast back. Batch norm,
in `HintRegressor` and `ReviewFusion`, has slopes of up to 300: where the student's features hardly vary and miss the
teacher's by thousands, a float16 gradient overflows, once it is cast back.
"""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded


def hint(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean squared difference of features, the student's already regressed to the teacher's shape.

    Zero iff the two agree. Unchanged when the same features are added to both, or both are rotated alike.

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
    student, teacher = full_precision(student_features), full_precision(teacher_features.detach())
    return F.mse_loss(student, teacher, reduction="none").flatten(1).mean(dim=1)


class HintRegressor(nn.Sequential):
    """Maps the student's channels to the teacher's: a 1x1 convolution (or linear map) and batch norm.

    Height and width stay the student's; `match_size` makes them equal. When training, it gives the same when the
    student's features are shifted by a number a channel or, but for batch norm's epsilon, multiplied by a positive
    number; what it gives follows the order of the examples. It is trained and checkpointed with the student, and is no
    part of the exported model.

    Args:
        student_shape, teacher_shape: of one example's features: (channels, height, width) or (width,).

    Raises:
        ValueError: one has the shape of a map and the other has not; on use, when training, a batch has one value a
            channel, which batch norm can't normalise.

    References:
        Romero et al., 2015, section 2.2; batch norm after Tian et al., "Contrastive Representation Distillation", 2020.
    """

    def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
        require_same_rank(student_shape, teacher_shape)
        inputs, outputs = student_shape[0], teacher_shape[0]
        if len(student_shape) == 3:
            super().__init__(nn.Conv2d(inputs, outputs, kernel_size=1, bias=False), nn.BatchNorm2d(outputs))
        else:
            super().__init__(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, student_features: Tensor) -> Tensor:
        """(B, C_t, H, W) or (B, D_t).

        Args:
            student_features: (B, C_s, H, W) or (B, D_s).
        """
        if self.training:
            require_several(student_features.shape)
        with unrounded(student_features):
            return super().forward(student_features.to(next(self.parameters()).dtype))


def cosine_features(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """One minus the cosine of the angle between features, maps being averaged over their positions first.

    Unchanged when either side is multiplied by a positive number, or both are rotated alike. Zero iff they point the
    same way, at most 2. Where either is a row of zeros it is 1 and has no gradient.

    Args:
        student_features, teacher_features: (B, D) or (B, C, H, W), of equal D or C. No gradient reaches the teacher.

    Returns:
        (B,).

    Raises:
        ValueError: either is of another rank, or batches or widths differ.

    References:
        None with a usual weight.

    Example:
        >>> import torch
        >>> cosine_features(torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 2.0]]))
        tensor([0.2929])
    """
    student, teacher = _embedding(student_features), _embedding(teacher_features.detach())
    require_same_shape(student, teacher)
    return 1 - (unit(student) * unit(teacher)).sum(dim=1)


def attention_transfer(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of attention, the normalised mean over channels of squared maps, summed over the list.

    Unchanged when channels are permuted or change sign, or when a map is multiplied by a number other than zero, as
    long as its mean squares, as a vector of positions, are longer than 1e-12, of float16 maps 4e-9; features of about
    1e-6, of float16 6e-5. Below that it counts as a map of zeros, which attends to nothing and has no gradient.
    The larger map is pooled to the smaller.

    Args:
        student_maps, teacher_maps: lists of (B, C, H, W), as many of one as of the other; C, H and W may differ.
            No gradient reaches the teacher.

    Returns:
        (B,).

    Raises:
        ValueError: the lists are empty or differ in length, an entry is not a map, or batches differ.

    References:
        Zagoruyko, Komodakis, "Paying More Attention to Attention", 2017, section 3.1; mean and pooling after
        Tian et al., "Contrastive Representation Distillation", 2020.

    Example:
        >>> import torch
        >>> one = torch.tensor([[[[1.0, 0.0]], [[2.0, 0.0]]]])  # (1, 2, 1, 2), attends to the left
        >>> other = torch.tensor([[[[0.0, 3.0]]]])  # (1, 1, 1, 2), attends to the right
        >>> attention_transfer([one], [other])
        tensor([1.])
    """
    require_same_number(student_maps, teacher_maps)
    values = []
    for mine, theirs in zip(student_maps, teacher_maps, strict=True):
        student, teacher = match_size(full_precision(mine), full_precision(theirs.detach()))
        difference = _attention(student, mine.dtype) - _attention(teacher, theirs.dtype)  # (B, P)
        values.append(difference.square().mean(dim=1))
    return torch.stack(values).sum(dim=0)


def neuron_selectivity(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of channels, each normalised over positions, with the kernel (x · y)².

    Unchanged when a channel longer than 1e-12, of float16 6e-5, is multiplied by a number other than zero, when
    channels are permuted, or when the positions of both are permuted alike. Zero when student equals teacher.
    A channel of zeros, or of that length or less, has no gradient. The larger map is pooled to the smaller.

    Args:
        student_maps, teacher_maps: (B, C, H, W); C, H and W may differ. No gradient reaches the teacher.

    Returns:
        (B,).

    Raises:
        ValueError: either is not a map, or batches differ.

    References:
        Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017, section 4.2.

    Example:
        >>> import torch
        >>> one, other = torch.eye(2)[:1], torch.eye(2)[1:]  # channels that fire at one position each
        >>> neuron_selectivity(one.reshape(1, 1, 1, 2), other.reshape(1, 1, 1, 2))
        tensor([2.])
    """
    student, teacher = match_size(full_precision(student_maps), full_precision(teacher_maps.detach()))
    student = unit(student.flatten(2), least=shortest(student_maps.dtype))  # (B, C, P)
    teacher = unit(teacher.flatten(2), least=shortest(teacher_maps.dtype))
    channels, positions = max(student.shape[1], teacher.shape[1]), student.shape[2]
    with unrounded(student):
        if positions <= channels:  # the kernel's mean is a product of (B, P, P) matrices: their difference is enough
            one, other = (each.mT @ each / each.shape[1] for each in (student, teacher))
            return (one - other).square().sum(dim=(1, 2))
        pairs = ((student, student), (teacher, teacher), (student, teacher))
        within, without, between = ((one @ other.mT).square().mean(dim=(1, 2)) for one, other in pairs)  # (B, C, C')
        return within + without - 2 * between


def match_size(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps in one size: each of height and width is averaged down, adaptively, to the smaller of the two.

    Args:
        student_map, teacher_map: (B, C, H, W); C, H and W may differ.

    Returns:
        (B, C, H', W') of each.

    Raises:
        ValueError: either is not a map, or batches differ.

    Example:
        >>> import torch
        >>> one, other = match_size(torch.ones(2, 3, 8, 4), torch.ones(2, 5, 4, 8))
        >>> tuple(one.shape), tuple(other.shape)
        ((2, 3, 4, 4), (2, 5, 4, 4))
    """
    if student_map.ndim != 4 or teacher_map.ndim != 4 or len(student_map) != len(teacher_map):
        shapes = f"student {tuple(student_map.shape)} and teacher {tuple(teacher_map.shape)}"
        raise ValueError(f"{shapes} are not maps (B, C, H, W) of equal B")
    (height, width), (other_height, other_width) = student_map.shape[2:], teacher_map.shape[2:]
    size = (min(height, other_height), min(width, other_width))
    student, teacher = (
        each if each.shape[2:] == size else F.adaptive_avg_pool2d(each, size) for each in (student_map, teacher_map)
    )
    return student, teacher


def unit(vectors: Tensor, *, epsilon: float = 0.0, least: float | None = None) -> Tensor:
    """Vectors along the last dimension divided by their length plus epsilon, in at least float32.

    A vector not longer than `least`, None for `shortest` of its type, counts as zero: it stays so and has no gradient.
    """
    least = shortest(vectors.dtype) if least is None else least
    vectors = full_precision(vectors)
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(lengths > least, vectors / (lengths.clamp(min=least) + epsilon), 0.0)


def shortest(dtype: torch.dtype) -> float:
    """The length below which a vector's slope when it is made one long, 1 / length, is too large for a type."""
    return max(1e-12, 4 / torch.finfo(dtype).max)


def require_several(shape: Sequence[int]) -> None:
    """Refuse features (B, C, ...) that are one value a channel, which batch norm can't normalise when training."""
    if prod(shape) == shape[1]:
        line = f"features {tuple(shape)} are one value a channel, which batch norm can't learn from"
        raise ValueError(f"{line}; allowed: 2 or more examples")


def require_same_rank(student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
    """Refuse shapes of one example's features that are not both maps (C, H, W) or both embeddings (D,)."""
    if len(student_shape) not in (1, 3) or len(student_shape) != len(teacher_shape):
        raise ValueError(f"features of shape {student_shape} can't be regressed to {teacher_shape}")


def require_same_number(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> None:
    """Refuse lists that are empty or of different lengths."""
    if not student_maps or len(student_maps) != len(teacher_maps):
        raise ValueError(f"{len(student_maps)} maps of the student and {len(teacher_maps)} of the teacher don't pair")


def _embedding(features: Tensor) -> Tensor:
    if features.ndim not in (2, 4):
        raise ValueError(f"features {tuple(features.shape)} are neither (B, D) nor (B, C, H, W)")
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def _attention(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, H W), of maps that came in a type: a square's slope is one over the root of its length."""
    return unit(maps.square().mean(dim=1).flatten(1), least=max(1e-12, shortest(dtype) ** 2))
