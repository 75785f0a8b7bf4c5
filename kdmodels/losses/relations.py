"""Losses on how a batch's examples, or a network's layers, relate to each other: one value per batch.

Student and teacher may differ in width where only the relations between examples are compared. A single example has
none: at B = 1 these losses and their gradients are zero. Half precision is computed, and returned, as float32, also
under autocast: what the losses compare differs by less than bfloat16 can tell apart. Where a loss divides by a norm,
its slope is one over it: of float16 features, lengths and distances below 6e-5 count as zero, so that the gradient can
be cast back. It still overflows where it is itself beyond float16: in `similarity_preserving`, of an example that is
much shorter than others and at right angles to them; in `probabilistic_transfer`, of embeddings shorter than 0.05 that
all but oppose each other; in `flow_of_solution`, of maps in the dozens; in `distance_metric`, of distances that differ
by 6e4.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from kdmodels.losses.features import match_size, shortest, unit
from kdmodels.losses.numerics import full_precision, unrounded


def similarity_preserving(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Mean square difference of the two batches' Gram matrices, each row divided by its norm.

    Zero when student equals teacher. Unchanged when features are rotated or multiplied by a constant, or when the
    examples change places. An example whose features are all zero is similar to nothing: its row is zero.

    Args:
        student_maps: (B, ...), flattened.
        teacher_maps: (B, ...), flattened; of any width. No gradient reaches it.

    Returns:
        (): a batch's value. It falls as 1 / B, so that a weight assumes a batch size.

    Raises:
        ValueError: either is not (B, ...), or the batch sizes differ.

    References:
        Tung, Mori, "Similarity-Preserving Knowledge Distillation", 2019, section 3.

    Example:
        >>> import torch
        >>> similarity_preserving(torch.eye(2), torch.ones(2, 1))
        tensor(0.2929)
    """
    if min(student_maps.ndim, teacher_maps.ndim) < 2 or len(student_maps) != len(teacher_maps):
        raise ValueError(f"{_both(student_maps, teacher_maps)} are not (B, ...) of equal B")

    def similarities(maps: Tensor) -> Tensor:
        flat = full_precision(maps).flatten(1)
        return unit(_products(flat, flat), least=max(1e-12, shortest(maps.dtype) ** 2))  # (B, B), of squares

    return F.mse_loss(similarities(student_maps), similarities(teacher_maps.detach()))


def relational_distance(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Smooth L1 of the two batches' pairwise distances, each batch's divided by their mean.

    Zero when student equals teacher. Unchanged when embeddings are shifted, rotated or multiplied by a constant, or
    when the examples change places. A distance below 1e-6, of float16 6e-5, counts as that and passes no gradient.

    Args:
        student_embeddings: (B, D).
        teacher_embeddings: (B, D'), of any width. No gradient reaches it.

    Returns:
        (): a batch's value, the mean over all B squared pairs.

    Raises:
        ValueError: either is not (B, D), or the batch sizes differ.

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
    """Smooth L1 of the cosines of the angles that each example sees between each two others.

    Zero when student equals teacher. Unchanged when embeddings are shifted, rotated or multiplied by a constant, or
    when the examples change places. Coinciding examples, of float16 also those nearer than 6e-5, have no direction:
    a cosine of 0, no gradient. Its cost grows as B cubed.

    Args:
        student_embeddings: (B, D).
        teacher_embeddings: (B, D'), of any width. No gradient reaches it.

    Returns:
        (): a batch's value, the mean over all B cubed triples.

    Raises:
        ValueError: either is not (B, D), or the batch sizes differ.

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
    """Mean square difference of the two batches' pairwise distances or cosines, not normalised.

    Zero when student equals teacher. Unchanged when the embeddings are rotated, when examples change places, and when
    the embeddings are shifted (euclidean) or each multiplied by a positive constant (cosine). Under the cosine metric
    an embedding of zeros, or not longer than 1e-12, of float16 6e-5, has a cosine of 0 with all and no gradient.

    Args:
        student_embeddings: (B, D).
        teacher_embeddings: (B, D'), of any width. No gradient reaches it.
        metric: euclidean or cosine.

    Returns:
        (): a batch's value, the mean over all B squared pairs.

    Raises:
        ValueError: either is not (B, D), the batch sizes differ, or the metric is another.

    References:
        None: distances between examples, compared as they are. Normalised: `relational_distance`.

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
    """Mean of p log(p / q): each example's similarities to all, as probabilities p of the teacher, q of the student.

    A similarity is (cosine + 1) / 2. Zero when student equals teacher. Unchanged when embeddings are rotated or
    each multiplied by a positive constant (up to the 1e-7 added to their norms), or when the examples change places.
    An embedding of zeros, or not longer than 1e-12, of float16 6e-5, has a cosine of 0 with all and no gradient.

    Args:
        student_embeddings: (B, D).
        teacher_embeddings: (B, D'), of any width. No gradient reaches it.

    Returns:
        (): a batch's value. A mean over all B squared pairs: it falls as 1 / B, so that a weight assumes a batch size.

    Raises:
        ValueError: either is not (B, D), or the batch sizes differ.

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
    """Mean square difference of the Gram matrices between the channels of two consecutive maps, summed over the pairs.

    A Gram matrix is averaged over positions; of two consecutive maps the larger is pooled to the size of the smaller.
    Zero when student equals teacher. Unchanged when the examples change places, or when positions do in maps of one
    size, alike in all maps.
    The gradient grows as the cube of the features: that of float16 maps in the dozens can overflow.

    Args:
        student_maps: at least two maps (B, C, H, W), each of its own C, H and W.
        teacher_maps: as many, of the same B and C; H and W may differ. No gradient reaches them.

    Returns:
        (): a batch's value.

    Raises:
        ValueError: there are fewer than two maps, not as many of both, a map is not (B, C, H, W),
            or a pair differs in B or C.

    References:
        Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation", 2017, section 3.

    Example:
        >>> import torch
        >>> one, two = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 4, 4)
        >>> flow_of_solution([one, 3 * two], [one, two])
        tensor(4.)
    """
    if len(student_maps) != len(teacher_maps) or len(student_maps) < 2:
        raise ValueError(f"{len(student_maps)} student and {len(teacher_maps)} teacher maps are not two or more pairs")
    for one, other in zip(student_maps, teacher_maps, strict=True):
        if one.ndim != 4 or other.ndim != 4 or one.shape[:2] != other.shape[:2]:
            raise ValueError(f"{_both(one, other)} are not (B, C, H, W) of equal B and C")
    flows = zip(_flows(student_maps), _flows([each.detach() for each in teacher_maps]), strict=True)
    return torch.stack([F.mse_loss(student, teacher) for student, teacher in flows]).sum()


def require_embeddings(student: Tensor, teacher: Tensor) -> None:
    """Refuse what is not two batches of embeddings of the same examples."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(f"{_both(student, teacher)} are not (B, D) of equal B")


def _both(student: Tensor, teacher: Tensor) -> str:
    return f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"


def _products(rows: Tensor, others: Tensor) -> Tensor:
    """Inner products (..., N, M) of each of rows (..., N, D) with each of others (..., M, D)."""
    with unrounded(rows):
        return rows @ others.mT


def _cosines(embeddings: Tensor, epsilon: float = 0.0) -> Tensor:
    rows = unit(embeddings, epsilon=epsilon)
    return _products(rows, rows)  # (B, B)


def _distances(embeddings: Tensor) -> Tensor:
    """Pairwise Euclidean distances (B, B); the gradient of a distance of zero is zero."""
    rows = full_precision(embeddings)
    # By differences: by inner products, the distance of close points would be lost in rounding.
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _relative_distances(embeddings: Tensor) -> Tensor:
    """Pairwise distances divided by their mean over the pairs of two different examples; (B, B)."""
    batch = len(embeddings)
    itself = torch.eye(batch, dtype=torch.bool, device=embeddings.device)
    distances = _distances(embeddings).clamp(min=max(1e-6, shortest(embeddings.dtype))).masked_fill(itself, 0.0)
    mean = distances.sum() / max(batch * (batch - 1), 1)
    return distances / mean.clamp(min=1e-12)  # the mean is 0 only at B = 1


def _cosines_of_angles(embeddings: Tensor) -> Tensor:
    """(B, B, B): at [i, j, k] the cosine of the angle at example i between examples j and k."""
    rows, least = full_precision(embeddings), shortest(embeddings.dtype)
    directions = unit(rows.unsqueeze(0) - rows.unsqueeze(1), least=least)  # (B, B, D), at [i, j] from i to j
    return _products(directions, directions)


def _flows(maps: Sequence[Tensor]) -> Iterator[Tensor]:
    """Gram matrices (B, C, C') of consecutive maps, averaged over positions."""
    for first, second in pairwise(maps):
        one, two = match_size(full_precision(first), full_precision(second))
        yield _products(one.flatten(2), two.flatten(2)) / one[0, 0].numel()
