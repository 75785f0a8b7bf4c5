"""Losses on feature maps and embeddings. The value of an example does not depend on other examples.

The losses, and the modules of this package, convert half-precision inputs to float32 and return float32, also under
autocast. In float16, a product of features of 1e4 would overflow.

If a loss divides by the length of a vector, its gradient is proportional to 1 / length. For float16 inputs, lengths
below 6e-5 count as zero, so that the gradient can be cast back to float16. A float16 gradient can still overflow in
`channel_correlation`, if a channel is nearly orthogonal to the others and much smaller, and in `HintRegressor` and
`ReviewFusion`, because batch norm can multiply a gradient by up to 300. This happens if the
student's features hardly vary and differ from the teacher's features by thousands.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded
from kdmodels.losses.regressor import match_size, regressed
from kdmodels.losses.term_loss import Builder, on_all_places, on_features


def hint(student_features: Tensor, teacher_features: Tensor, *, activation: str | None = None) -> Tensor:
    """Return the mean squared difference between the student's and the teacher's features.

    In experiments, `HintRegressor` first maps the student's features to the teacher's shape. The value is zero if and
    only if the features are equal. Adding the same tensor to both, or rotating both in the same way, does not change
    the value.

    Args:
        student_features, teacher_features: Features of equal shape (B, ...). No gradient reaches the teacher.
        activation: If `relu`, negative features of the student count as 0. Set it if the teacher's features are not
            negative. None: the features are compared as they are.

    Returns:
        Values of shape (B,).

    Raises:
        ValueError: The shapes differ, or the activation is unknown.

    References:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, section 2.2.
        Tian et al., "Contrastive Representation Distillation", 2020 (the ReLU).

    Example:
        >>> import torch
        >>> hint(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]]))
        tensor([2.])
    """
    require_same_shape(student_features, teacher_features)
    if activation not in (None, "relu"):
        raise ValueError(f"activation {activation!r} is neither 'relu' nor None")
    student, teacher = full_precision(student_features), full_precision(teacher_features.detach())
    student = student.relu() if activation else student
    return F.mse_loss(student, teacher, reduction="none").flatten(1).mean(dim=1)


def cosine_features(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Return one minus the cosine of the angle between features. Maps are first averaged over their positions.

    The value is 0 for equal directions and 2 for opposite directions. Multiplying the features of either network by a
    positive number, or rotating both in the same way, does not change the value. If the features of the student or the
    teacher are all zero, the value is 1 and has no gradient.

    Args:
        student_features, teacher_features: Features of shape (B, D) or (B, C, H, W). Student and teacher have the same
            width D or C. No gradient reaches the teacher.

    Returns:
        Values of shape (B,).

    Raises:
        ValueError: The features are neither (B, D) nor (B, C, H, W), or the batch sizes or widths differ.

    References:
        No paper establishes a weight for this loss.

    Example:
        >>> import torch
        >>> cosine_features(torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 2.0]]))
        tensor([0.2929])
    """
    student, teacher = _embedding(student_features), _embedding(teacher_features.detach())
    require_same_shape(student, teacher)
    return 1 - (unit(student) * unit(teacher)).sum(dim=1)


def attention_transfer(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Return the mean squared difference between the student's and the teacher's attention, summed over a list of maps.

    To compute the attention of a map, its squared values are averaged over the channels. The result is a vector over
    the positions, which is then normalised to length 1. If two maps differ in size, the larger map is first pooled to
    the size of the smaller map.

    Permuting channels, changing their signs, or multiplying a map by a nonzero number does not change the value. If the
    vector has a length up to 1e-12 (float16: 4e-9) before it is normalised, the attention is zero and has no gradient.
    Features of about 1e-6 (float16: 6e-5) give vectors of this length.

    Args:
        student_maps, teacher_maps: Lists of maps (B, C, H, W). The lists have equal length; C, H and W may differ.
            No gradient reaches the teacher.

    Returns:
        Values of shape (B,).

    Raises:
        ValueError: The lists are empty or differ in length, an entry is not a map, or batch sizes differ.

    References:
        Zagoruyko, Komodakis, "Paying More Attention to Attention", 2017, section 3.1.
        Tian et al., "Contrastive Representation Distillation", 2020 (the mean and the pooling).

    Example:
        >>> import torch
        >>> one = torch.tensor([[[[1.0, 0.0]], [[2.0, 0.0]]]])  # (1, 2, 1, 2), attends to the left
        >>> other = torch.tensor([[[[0.0, 3.0]]]])  # (1, 1, 1, 2), attends to the right
        >>> attention_transfer([one], [other])
        tensor([1.])
    """
    require_same_number(student_maps, teacher_maps)
    values = []
    for student_map, teacher_map in zip(student_maps, teacher_maps, strict=True):
        student, teacher = match_size(full_precision(student_map), full_precision(teacher_map.detach()))
        difference = _attention(student, student_map.dtype) - _attention(teacher, teacher_map.dtype)  # (B, P)
        values.append(difference.square().mean(dim=1))
    return torch.stack(values).sum(dim=0)


def neuron_selectivity(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy between the channels of two maps, for the kernel (x · y)².

    Each channel is a vector over the positions and is normalised to length 1. If two maps differ in size, the larger
    map is first pooled to the size of the smaller map.

    The value is zero if the maps are equal. Multiplying a channel by a nonzero number, permuting channels, or permuting
    the positions of both maps in the same way does not change the value. A channel of length up to 1e-12 (float16:
    6e-5) counts as zero and has no gradient.

    Args:
        student_maps, teacher_maps: Maps of shape (B, C, H, W); C, H and W may differ. No gradient reaches the teacher.

    Returns:
        Values of shape (B,).

    Raises:
        ValueError: The shapes are not (B, C, H, W), or batch sizes differ.

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
        if positions <= channels:  # the value is the squared norm of a difference of (B, P, P) matrices
            one, other = (each.mT @ each / each.shape[1] for each in (student, teacher))
            return (one - other).square().sum(dim=(1, 2))
        pairs = ((student, student), (teacher, teacher), (student, teacher))
        within, without, between = ((one @ other.mT).square().mean(dim=(1, 2)) for one, other in pairs)  # (B, C, C')
        return within + without - 2 * between


def channel_correlation(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Return the mean squared distance between the rows of the channels' Gram matrices, with normalised rows.

    The Gram matrix of a map holds the inner products of all pairs of channels over the positions. Each row is divided
    by its norm. The value is the sum of all squared differences of the student's and the teacher's matrix, divided by
    the number of channels.

    The value is zero if the maps are equal. Permuting the positions of either map, or multiplying a map by a nonzero
    number, does not change the value. If all values of a channel are zero, its row is zero and has no gradient. In
    experiments, `HintRegressor` first maps the student's features to the teacher's channels.

    Args:
        student_maps, teacher_maps: Maps of shape (B, C, H, W) with equal B and C; H and W may differ. No gradient
            reaches the teacher.

    Returns:
        Values of shape (B,).

    Raises:
        ValueError: The shapes are not (B, C, H, W), or B or C differ.

    References:
        Liu et al., "Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation", 2021 (ICKD),
        section 3. Normalised rows and the divisor are from the released code. The paper divides by the square of the
        number of channels and normalises nothing.

    Example:
        >>> import torch
        >>> one, other = torch.eye(2).reshape(1, 2, 1, 2), torch.ones(1, 2, 1, 2)
        >>> channel_correlation(one, other)
        tensor([0.5858])
    """
    if student_maps.ndim != 4 or teacher_maps.ndim != 4 or student_maps.shape[:2] != teacher_maps.shape[:2]:
        shapes = f"student {tuple(student_maps.shape)} and teacher {tuple(teacher_maps.shape)}"
        raise ValueError(f"expected maps (B, C, H, W) with equal B and C, got {shapes}")

    def rows(maps: Tensor) -> Tensor:
        flat = full_precision(maps).flatten(2)  # (B, C, P)
        with unrounded(flat):
            return unit(flat @ flat.mT, least=max(1e-12, shortest(maps.dtype) ** 2))  # (B, C, C), of squares

    return (rows(student_maps) - rows(teacher_maps.detach())).square().sum(dim=(1, 2)) / student_maps.shape[1]


def unit(vectors: Tensor, *, epsilon: float = 0.0, least: float | None = None) -> Tensor:
    """Divide the vectors along the last dimension by their length plus epsilon, in float32 or wider.

    A vector of length up to `least` becomes zero and has no gradient. If `least` is None, the result of `shortest` for
    the data type of the vectors is used.
    """
    least = shortest(vectors.dtype) if least is None else least
    vectors = full_precision(vectors)
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(lengths > least, vectors / (lengths.clamp(min=least) + epsilon), 0.0)


def shortest(dtype: torch.dtype) -> float:
    """Return the length up to which a vector of a data type counts as zero.

    Gradients are proportional to 1 / length. Gradients of shorter vectors could be too large for the data type.
    """
    return max(1e-12, 4 / torch.finfo(dtype).max)


def require_same_number(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> None:
    """Raise ValueError if the lists are empty or differ in length."""
    if not student_maps or len(student_maps) != len(teacher_maps):
        numbers = f"{len(student_maps)} student and {len(teacher_maps)} teacher maps"
        raise ValueError(f"expected one or more pairs of maps, got {numbers}")


def _embedding(features: Tensor) -> Tensor:
    if features.ndim not in (2, 4):
        raise ValueError(f"features {tuple(features.shape)} are neither (B, D) nor (B, C, H, W)")
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def _attention(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the attention (B, H * W) of maps.

    The values are means of squared features, so a vector counts as zero up to a length of `shortest` squared.

    Args:
        maps: Maps of shape (B, C, H, W).
        dtype: Data type of the maps before they were converted to float32.
    """
    return unit(maps.square().mean(dim=1).flatten(1), least=max(1e-12, shortest(dtype) ** 2))


BUILDERS: Mapping[str, Builder] = {
    "hint": regressed(on_features(hint)),
    "cosine_features": regressed(on_features(cosine_features), unless_same_channels=True),
    "attention_transfer": on_all_places(attention_transfer),
    "neuron_selectivity": on_features(neuron_selectivity),
    "channel_correlation": regressed(on_features(channel_correlation)),
}
