"""Losses on relations between the examples of a batch, or between the layers of a network.

Every loss returns one value per batch.

If a loss only compares relations between examples, student and teacher can have different widths. A single example has
no relations. The value and gradient of such a loss are therefore zero if B = 1.

The losses convert half-precision inputs to float32 and return float32, also under autocast. In bfloat16, the small
differences between the compared quantities would be lost. If a loss divides by a norm, its gradient is proportional to
1 / norm. For float16 inputs, lengths and distances below 6e-5 count as zero, so that the gradient can be cast back to
float16. A float16 gradient still overflows in:

- `similarity_preserving`, if an example is orthogonal to the other examples and has a much smaller norm;
- `probabilistic_transfer`, if embeddings are shorter than 0.05 and point in nearly opposite directions;
- `flow_of_solution`, if maps have values above about 30;
- `distance_metric`, if a distance differs by 6e4 between student and teacher.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from kdmodels.losses.features import shortest, unit
from kdmodels.losses.numerics import full_precision, unrounded
from kdmodels.losses.regressor import match_size, regressed
from kdmodels.losses.term_loss import Builder, on_all_places, on_features


def similarity_preserving(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Return the mean squared difference between the Gram matrices of student and teacher, with normalised rows.

    A Gram matrix holds the inner products of the features of all pairs of examples. Each row is divided by its norm.
    The value is zero if student and teacher are equal. Rotating features, multiplying them by a nonzero constant, or
    reordering the examples does not change the value. If all features of an example are zero, its row of the Gram
    matrix is zero.

    Args:
        student_maps, teacher_maps: Features of shape (B, ...), which are flattened to (B, D). The widths D may differ.
            No gradient reaches the teacher.

    Returns:
        A scalar, one value per batch. The value falls as 1 / B, so a suitable weight depends on the batch size.

    Raises:
        ValueError: The shapes are not (B, ...), or the batch sizes differ.

    References:
        Tung, Mori, "Similarity-Preserving Knowledge Distillation", 2019, section 3.

    Example:
        >>> import torch
        >>> similarity_preserving(torch.eye(2), torch.ones(2, 1))
        tensor(0.2929)
    """
    if min(student_maps.ndim, teacher_maps.ndim) < 2 or len(student_maps) != len(teacher_maps):
        raise ValueError(f"expected features (B, ...) with equal B, got {_both(student_maps, teacher_maps)}")

    def similarities(maps: Tensor) -> Tensor:
        flat = full_precision(maps).flatten(1)
        return unit(_products(flat, flat), least=max(1e-12, shortest(maps.dtype) ** 2))  # (B, B), of squares

    return F.mse_loss(similarities(student_maps), similarities(teacher_maps.detach()))


def relational_distance(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Return the smooth L1 loss between the relative pairwise distances of student and teacher.

    Distances are relative to their mean over the batch. The value is zero if student and teacher are equal. Shifting,
    rotating or scaling the embeddings, or reordering the examples, does not change the value. A distance below 1e-6
    (float16: 6e-5) counts as 1e-6 (float16: 6e-5) and has no gradient.

    Args:
        student_embeddings: Embeddings of shape (B, D_s).
        teacher_embeddings: Embeddings of shape (B, D_t). No gradient reaches the teacher.

    Returns:
        A scalar, one value per batch: the mean over all B² pairs.

    Raises:
        ValueError: The shapes are not (B, D), or the batch sizes differ.

    References:
        Park, Kim, Lu, Cho, "Relational Knowledge Distillation", 2019, section 3.2.1.

    Example:
        >>> import torch
        >>> relational_distance(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [2.0], [2.0]]))
        tensor(0.1250)
    """
    require_embeddings(student_embeddings, teacher_embeddings)
    return F.smooth_l1_loss(_relative_distances(student_embeddings), _relative_distances(teacher_embeddings.detach()))


def relational_angle(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Return the smooth L1 loss between the student's and the teacher's cosines for all triples of examples.

    The cosine of a triple is the cosine of the angle at one example between the directions to the other two. The value
    is zero if student and teacher are equal. Shifting, rotating or scaling the embeddings, or reordering the examples,
    does not change the value. If two examples of a triple coincide (float16: are closer than 6e-5), there is no
    direction between them. The cosine of such a triple is 0 and has no gradient. The cost grows as B³.

    Args:
        student_embeddings: Embeddings of shape (B, D_s).
        teacher_embeddings: Embeddings of shape (B, D_t). No gradient reaches the teacher.

    Returns:
        A scalar, one value per batch: the mean over all B³ triples.

    Raises:
        ValueError: The shapes are not (B, D), or the batch sizes differ.

    References:
        Park, Kim, Lu, Cho, "Relational Knowledge Distillation", 2019, section 3.2.2.

    Example:
        >>> import torch
        >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> relational_angle(corner, torch.tensor([[0.0], [1.0], [-1.0]]))
        tensor(0.0434)
    """
    require_embeddings(student_embeddings, teacher_embeddings)
    return F.smooth_l1_loss(_cosines_of_angles(student_embeddings), _cosines_of_angles(teacher_embeddings.detach()))


def distance_metric(student_embeddings: Tensor, teacher_embeddings: Tensor, *, metric: str = "euclidean") -> Tensor:
    """Return the mean squared difference between the pairwise distances or cosines of student and teacher.

    The distances are not normalised. The value is zero if student and teacher are equal. Rotating the embeddings or
    reordering the examples does not change the value.

    With the Euclidean metric, shifting all embeddings does not change the value either. With the cosine metric,
    multiplying an embedding by a positive number does not change the value, and an embedding of length up to 1e-12
    (float16: 6e-5) has a cosine of 0 with all embeddings and no gradient.

    Args:
        student_embeddings: Embeddings of shape (B, D_s).
        teacher_embeddings: Embeddings of shape (B, D_t). No gradient reaches the teacher.
        metric: The metric, `euclidean` or `cosine`.

    Returns:
        A scalar, one value per batch: the mean over all B² pairs.

    Raises:
        ValueError: The shapes are not (B, D), the batch sizes differ, or the metric is unknown.

    References:
        No paper. The published variant with normalised distances is `relational_distance`.

    Example:
        >>> import torch
        >>> distance_metric(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]]))
        tensor(2.)
    """
    require_embeddings(student_embeddings, teacher_embeddings)
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric {metric!r} is neither 'euclidean' nor 'cosine'")
    pairs = _distances if metric == "euclidean" else _cosines
    return F.mse_loss(pairs(student_embeddings), pairs(teacher_embeddings.detach()))  # of (B, B)


def probabilistic_transfer(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Return the mean of p log(p / q), for the normalised similarities p of the teacher and q of the student.

    The similarity of two examples is (cosine + 1) / 2. The similarities of an example to all examples are divided by
    their sum. The value is zero if student and teacher are equal. Rotating the embeddings or reordering the examples
    does not change the value. Multiplying an embedding by a positive number does not change the value either, except
    for the 1e-7 that is added to the norms. An embedding of length up to 1e-12 (float16: 6e-5) has a cosine of 0 with
    all embeddings and no gradient.

    Args:
        student_embeddings: Embeddings of shape (B, D_s).
        teacher_embeddings: Embeddings of shape (B, D_t). No gradient reaches the teacher.

    Returns:
        A scalar, one value per batch: the mean over all B² pairs. The value falls as 1 / B, so a suitable weight
        depends on the batch size.

    Raises:
        ValueError: The shapes are not (B, D), or the batch sizes differ.

    References:
        Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", 2018, section 3.

    Example:
        >>> import torch
        >>> probabilistic_transfer(torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [-1.0]]))
        tensor(0.3466)
    """
    require_embeddings(student_embeddings, teacher_embeddings)

    def probabilities(embeddings: Tensor) -> Tensor:
        similarities = (_cosines(embeddings, epsilon=1e-7) + 1) / 2  # (B, B)
        return similarities / similarities.sum(dim=1, keepdim=True)

    q, p = probabilities(student_embeddings), probabilities(teacher_embeddings.detach())
    return (p * ((p + 1e-7) / (q + 1e-7)).log()).mean()


def flow_of_solution(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Return the mean squared difference of Gram matrices of consecutive maps, summed over the pairs of maps.

    A Gram matrix holds the products of each channel of a map with each channel of the next map, averaged over the
    positions. If the two maps differ in size, the larger map is first pooled to the size of the smaller map.

    The value is zero if student and teacher are equal. Reordering the examples does not change the value. If all maps
    have the same size, reordering the positions of all maps in the same way does not change the value either. The
    gradient grows with the cube of the features. A float16 gradient can therefore overflow if maps have values above
    about 30.

    Args:
        student_maps: At least two maps (B, C, H, W). C, H and W may differ between the maps.
        teacher_maps: One map per student map, with equal B and C; H and W may differ. No gradient reaches the teacher.

    Returns:
        A scalar, one value per batch.

    Raises:
        ValueError: There are fewer than two maps, the lists differ in length, a map is not (B, C, H, W), or a pair
            differs in B or C.

    References:
        Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation", 2017, section 3.

    Example:
        >>> import torch
        >>> one, two = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 4, 4)
        >>> flow_of_solution([one, 3 * two], [one, two])
        tensor(4.)
    """
    if len(student_maps) != len(teacher_maps) or len(student_maps) < 2:
        numbers = f"{len(student_maps)} student and {len(teacher_maps)} teacher maps"
        raise ValueError(f"expected two or more pairs of maps, got {numbers}")
    for one, other in zip(student_maps, teacher_maps, strict=True):
        if one.ndim != 4 or other.ndim != 4 or one.shape[:2] != other.shape[:2]:
            raise ValueError(f"expected maps (B, C, H, W) with equal B and C, got {_both(one, other)}")
    flows = zip(_flows(student_maps), _flows([each.detach() for each in teacher_maps]), strict=True)
    return torch.stack([F.mse_loss(student, teacher) for student, teacher in flows]).sum()


def require_embeddings(student: Tensor, teacher: Tensor) -> None:
    """Raise ValueError unless both tensors are embeddings (B, D) with the same batch size."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(f"expected embeddings (B, D) with equal B, got {_both(student, teacher)}")


def _both(student: Tensor, teacher: Tensor) -> str:
    return f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"


def _products(rows: Tensor, others: Tensor) -> Tensor:
    """Return the inner products (..., N, M) of rows (..., N, D) with other rows (..., M, D)."""
    with unrounded(rows):
        return rows @ others.mT


def _cosines(embeddings: Tensor, epsilon: float = 0.0) -> Tensor:
    rows = unit(embeddings, epsilon=epsilon)
    return _products(rows, rows)  # (B, B)


def _distances(embeddings: Tensor) -> Tensor:
    """Return pairwise Euclidean distances (B, B). A distance of zero has a gradient of zero."""
    rows = full_precision(embeddings)
    # Use differences of embeddings. With inner products, small distances would be lost in rounding.
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _relative_distances(embeddings: Tensor) -> Tensor:
    """Return pairwise distances (B, B), divided by the mean distance of pairs of different examples."""
    batch = len(embeddings)
    itself = torch.eye(batch, dtype=torch.bool, device=embeddings.device)
    distances = _distances(embeddings).clamp(min=max(1e-6, shortest(embeddings.dtype))).masked_fill(itself, 0.0)
    mean = distances.sum() / max(batch * (batch - 1), 1)
    return distances / mean.clamp(min=1e-12)  # the mean is 0 only if B = 1


def _cosines_of_angles(embeddings: Tensor) -> Tensor:
    """Return cosines (B, B, B). The entry [i, j, k] is for the angle at example i between examples j and k."""
    rows, least = full_precision(embeddings), shortest(embeddings.dtype)
    directions = unit(rows.unsqueeze(0) - rows.unsqueeze(1), least=least)  # (B, B, D), [i, j] points from i to j
    return _products(directions, directions)


def _flows(maps: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the Gram matrix (B, C, C') of each pair of consecutive maps, averaged over positions."""
    for first, second in pairwise(maps):
        one, two = match_size(full_precision(first), full_precision(second))
        yield _products(one.flatten(2), two.flatten(2)) / one[0, 0].numel()


BUILDERS: Mapping[str, Builder] = {
    "similarity_preserving": on_features(similarity_preserving),
    "relational_distance": on_features(relational_distance),
    "relational_angle": on_features(relational_angle),
    "distance_metric": on_features(distance_metric),
    "probabilistic_transfer": on_features(probabilistic_transfer),
    "flow_of_solution": regressed(on_all_places(flow_of_solution), unless_same_channels=True),
}
