"""Losses on logits.

Half precision is computed, and returned, as float32: a squared logit of 1e4 overflows float16. Where a loss divides by
the spread of the logits (`standardise`, `dist`), its slope is one over it: a float16 gradient overflows, once it is
cast back, where logits all but agree (to 1e-3), not where they are equal.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdmodels.losses.numerics import full_precision, log_softmax, require_labels, require_same_shape


def hard_labels(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with the labels: the control, which needs no teacher.

    Unchanged when a constant is added to all logits of an example.

    Args:
        student_logits: (B, K).
        labels: (B,), class indices.

    Returns:
        (B,), nats.

    Raises:
        ValueError: there is not one label per example.

    Example:
        >>> import torch
        >>> hard_labels(torch.zeros(1, 4), torch.tensor([2]))
        tensor([1.3863])
    """
    require_labels(student_logits, labels)
    return F.nll_loss(log_softmax(full_precision(student_logits)), labels, reduction="none")


def label_smoothing(student_logits: Tensor, labels: Tensor, *, epsilon: float = 0.1) -> Tensor:
    """Cross entropy with the labels mixed with the uniform distribution.

    The mass `epsilon` is spread over all K classes, the right one included (epsilon / K each). Unchanged when a
    constant is added to all logits of an example.

    Args:
        student_logits: (B, K).
        labels: (B,), class indices.
        epsilon: in [0, 1).

    Returns:
        (B,), nats.

    Raises:
        ValueError: epsilon is outside [0, 1), or there is not one label per example.

    References:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7.
    """
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon {epsilon} is outside [0, 1)")
    require_labels(student_logits, labels)
    log_q = log_softmax(full_precision(student_logits))
    return (1 - epsilon) * F.nll_loss(log_q, labels, reduction="none") - epsilon * log_q.mean(dim=-1)


def soft_targets(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    """KL(teacher || student) of temperature-softened classes, times temperature squared.

    The square keeps the gradient's size comparable across temperatures. Zero iff the two distributions agree;
    unchanged when a constant is added to all logits of an example.

    Args:
        student_logits, teacher_logits: (B, K). No gradient reaches the teacher.
        temperature: positive.

    Returns:
        (B,), nats.

    Raises:
        ValueError: the temperature is not positive, or the shapes differ.

    References:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.

    Example:
        >>> import torch
        >>> soft_targets(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=1.0)
        tensor([0.3278])
    """
    log_q, log_p = _log_classes(student_logits, teacher_logits, temperature)
    return temperature**2 * _kl(log_p, log_q)


def reverse_soft_targets(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    """KL(student || teacher) of temperature-softened classes, times temperature squared.

    The student is punished for mass where the teacher has none, and may leave out some of the teacher's modes.
    Zero iff the two distributions agree; unchanged when a constant is added to all logits of an example.

    Args:
        student_logits, teacher_logits: (B, K). No gradient reaches the teacher.
        temperature: positive.

    Returns:
        (B,), nats.

    Raises:
        ValueError: the temperature is not positive, or the shapes differ.

    References:
        Gu, Dong, Wei, Huang, "MiniLLM: Knowledge Distillation of Large Language Models", 2024, section 2.

    Example:
        >>> import torch
        >>> reverse_soft_targets(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=1.0)
        tensor([0.4338])
    """
    log_q, log_p = _log_classes(student_logits, teacher_logits, temperature)
    return temperature**2 * _kl(log_q, log_p)


def ensemble_logits(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """The logits of one teacher whose softened distribution is the mean of those of an ensemble.

    softmax(result / T) is the mean over members of softmax(logits / T): nothing else of the result counts for a loss
    that softens at the same temperature. As T grows it tends to the mean of the members' centred logits.

    Args:
        logits: (B, M, K), of M members.
        temperature: positive.

    Returns:
        (B, K), at most 0.

    Raises:
        ValueError: the temperature is not positive, or there is no dimension of members.

    References:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 1: the arithmetic mean of
        the members' predicted distributions.

    Example:
        >>> import torch
        >>> two = torch.tensor([[[0.75, 0.25], [0.25, 0.75]]]).log()
        >>> ensemble_logits(two).exp()
        tensor([[0.5000, 0.5000]])
    """
    if logits.dim() != 3:
        raise ValueError(f"logits of an ensemble are (B, M, K), not {tuple(logits.shape)}")
    each = _softened(logits, temperature).log_softmax(dim=2)
    return temperature * (each.logsumexp(dim=1) - math.log(logits.shape[1]))


def standardise(logits: Tensor) -> Tensor:
    """Logits of mean 0 and standard deviation 1, so that a student need not match the size of its teacher's.

    Unchanged by a shift and, up to the 1e-7 added to the deviation, by a positive factor. Equal logits become zeros
    and pass no gradient. With K = 2 only the order of the two logits is left: no gradient to speak of.

    Args:
        logits: (..., K).

    Returns:
        (..., K).

    Raises:
        ValueError: there are fewer than two classes, which have no deviation.

    References:
        Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", 2024.

    Example:
        >>> import torch
        >>> standardise(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[-1.0000,  0.0000,  1.0000]])
    """
    classes = logits.shape[-1]
    if classes < 2:
        raise ValueError(f"logits of shape {tuple(logits.shape)} have no deviation over fewer than two classes")
    centred = _centred(full_precision(logits))  # (B, K)
    deviation = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / (classes - 1) ** 0.5  # (B, 1)
    # Equal logits would have a slope of 1e7.
    return torch.where(deviation > 0, centred / (deviation + 1e-7), 0.0)


def standardised_soft_targets(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0) -> Tensor:
    """`soft_targets` of standardised logits: the order and the proportions of the classes, but not their size.

    Zero when the student's logits are a positive multiple of the teacher's plus a constant. With K = 2 the student
    gets no gradient to speak of: see `standardise`.

    Args:
        student_logits, teacher_logits: (B, K). No gradient reaches the teacher. An ensemble's are (B, M, K): of its M
            members' logits, standardised and softened, the mean distribution is taken.
        temperature: positive.

    Returns:
        (B,), nats.

    Raises:
        ValueError: the temperature is not positive, the shapes differ, or there are fewer than two classes.

    References:
        Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", 2024.

    Example:
        >>> import torch
        >>> standardised_soft_targets(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0]]))
        tensor([1.2806])
    """
    teacher = standardise(teacher_logits)
    if teacher.dim() > student_logits.dim():
        teacher = ensemble_logits(teacher, temperature=temperature)
    return soft_targets(standardise(student_logits), teacher, temperature=temperature)


def decoupled(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """Soft targets in two parts with weights of their own: the label against the rest, and among the rest.

    In `soft_targets` the second part is scaled by the teacher's mass on the rest, hence all but lost where the teacher
    is sure. Zero iff the two distributions agree; unchanged when a constant is added to all logits of an example.
    With K = 2 the second part is zero.

    Args:
        student_logits, teacher_logits: (B, K). No gradient reaches the teacher.
        labels: (B,), class indices.
        alpha: weight of KL between (label, rest).
        beta: weight of KL among the other classes.
        temperature: positive.

    Returns:
        (B,), nats.

    Raises:
        ValueError: the temperature is not positive, the shapes differ, there is not one label per example,
            or there are fewer than two classes.

    References:
        Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", 2022, section 3.

    Example:
        >>> import torch
        >>> student, teacher, labels = torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> decoupled(student, teacher, labels, temperature=1.0)
        tensor([0.3278])
    """
    require_same_shape(student_logits, teacher_logits)
    require_labels(student_logits, labels)
    if student_logits.shape[-1] < 2:
        raise ValueError(f"logits of shape {tuple(student_logits.shape)} have no class beside the label's")
    student_odds, log_q = _label_and_rest(_softened(student_logits, temperature), labels)
    teacher_odds, log_p = _label_and_rest(_softened(teacher_logits.detach(), temperature), labels)
    binary = _kl(_log_binary(teacher_odds), _log_binary(student_odds))
    return temperature**2 * (alpha * binary + beta * _kl(log_p, log_q))


def dist(
    student_logits: Tensor, teacher_logits: Tensor, *, beta: float = 2.0, gamma: float = 2.0, temperature: float = 4.0
) -> Tensor:
    """One minus the correlation of softened classes, by example and by class, times temperature squared.

    Zero when student equals teacher, up to the 1e-8 in the correlation's denominator. Unchanged when a constant is
    added to all logits of an example, or when the examples or the classes change places. A row or column that is
    constant in one of the two counts as uncorrelated and passes no gradient: the row of an example with equal logits,
    and every column when B = 1, which then gives temperature squared times gamma.

    Args:
        student_logits, teacher_logits: (B, K). No gradient reaches the teacher.
        beta: weight of the correlation of each example's row.
        gamma: weight of the correlation of each class's column.
        temperature: positive.

    Returns:
        (): a batch's value.

    Raises:
        ValueError: the temperature is not positive, or the shapes differ.

    References:
        Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", 2022.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> dist(logits, -logits, temperature=1.0)
        tensor(8.0000)
    """
    require_same_shape(student_logits, teacher_logits)
    q = F.softmax(_softened(student_logits, temperature), dim=-1)  # (B, K)
    p = F.softmax(_softened(teacher_logits.detach(), temperature), dim=-1)  # (B, K)
    rows = 1 - _correlation(q, p).mean()
    columns = 1 - _correlation(q.mT, p.mT).mean()
    return temperature**2 * (beta * rows + gamma * columns)


def logit_regression(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean over classes of the squared difference of logits.

    Zero iff the two agree. Unlike `soft_targets` it is not invariant to a shift of the student's logits alone, only to
    one of both.

    Args:
        student_logits, teacher_logits: (B, K). No gradient reaches the teacher.

    Returns:
        (B,).

    Raises:
        ValueError: the shapes differ.

    References:
        Ba, Caruana, "Do Deep Nets Really Need to be Deep?", 2014, section 2.2.

    Example:
        >>> import torch
        >>> logit_regression(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
        tensor([2.])
    """
    require_same_shape(student_logits, teacher_logits)
    student, teacher = full_precision(student_logits), full_precision(teacher_logits.detach())
    return F.mse_loss(student, teacher, reduction="none").mean(dim=-1)


def _softened(logits: Tensor, temperature: float) -> Tensor:
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} is not positive")
    return full_precision(logits) / temperature


def _log_classes(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the softened classes, the student's and the teacher's, (B, K) each."""
    require_same_shape(student_logits, teacher_logits)
    student, teacher = (_softened(logits, temperature) for logits in (student_logits, teacher_logits.detach()))
    return log_softmax(student), log_softmax(teacher)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    # Written out, because torch.func has no batching rule for F.kl_div and falls back to a loop over replicas.
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _label_and_rest(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The log-odds of the label (B,), and the log-probabilities of the other classes among themselves (B, K - 1)."""
    # Gathered, because a mask of minus infinity turns 0 * (inf - inf) into NaN.
    others = torch.arange(logits.shape[-1] - 1, device=logits.device)
    others = others + (others >= labels.unsqueeze(-1))  # (B, K - 1), skips the label
    label_logits, other_logits = logits.gather(-1, labels.unsqueeze(-1)), logits.gather(-1, others)
    odds = label_logits.squeeze(-1) - other_logits.logsumexp(dim=-1)
    return odds, log_softmax(other_logits)


def _log_binary(log_odds: Tensor) -> Tensor:
    """log (p, 1 - p), (B, 2): finite also where p is 0 or 1, as the log of a softmax is not."""
    return F.logsigmoid(torch.stack([log_odds, -log_odds], dim=-1))


def _centred(rows: Tensor) -> Tensor:
    """Rows less their mean. An entry is taken off first, so that a constant row is zero without rounding."""
    rows = rows - rows[..., :1]
    return rows - rows.mean(dim=-1, keepdim=True)


def _correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Pearson's, of each row with its counterpart; 0 where one of the two is constant."""
    student, teacher = _centred(student), _centred(teacher)
    norms = torch.linalg.vector_norm(student, dim=-1) * torch.linalg.vector_norm(teacher, dim=-1)
    # A constant student would have a slope of 1e8.
    return torch.where(norms > 0, (student * teacher).sum(dim=-1) / (norms + 1e-8), 0.0)
