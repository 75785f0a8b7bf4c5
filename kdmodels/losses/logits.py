"""Losses on logits."""

import torch.nn.functional as F
from torch import Tensor


def hard_labels(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with the labels: the control, which needs no teacher.

    Args:
        student_logits: (B, K).
        labels: (B,), class indices.

    Returns:
        (B,), nats.

    Example:
        >>> import torch
        >>> hard_labels(torch.zeros(1, 4), torch.tensor([2]))
        tensor([1.3863])
    """
    return F.cross_entropy(student_logits, labels, reduction="none")


def label_smoothing(student_logits: Tensor, labels: Tensor, *, epsilon: float = 0.1) -> Tensor:
    """Cross entropy with the labels mixed with the uniform distribution.

    The mass `epsilon` is spread over all K classes, the right one included (epsilon / K each).

    Args:
        student_logits: (B, K).
        labels: (B,), class indices.
        epsilon: in [0, 1).

    Returns:
        (B,), nats.

    Raises:
        ValueError: epsilon is outside [0, 1).

    References:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7.
    """
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon {epsilon} is outside [0, 1)")
    return F.cross_entropy(student_logits, labels, reduction="none", label_smoothing=epsilon)


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
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} is not positive")
    require_same_shape(student_logits, teacher_logits)
    log_q = F.log_softmax(student_logits / temperature, dim=-1)  # (B, K)
    log_p = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)  # (B, K)
    # Written out, because torch.func has no batching rule for F.kl_div and falls back to a loop over replicas.
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def logit_regression(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean over classes of the squared difference of logits.

    Unlike `soft_targets` it is not invariant to a shift of the logits.

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
    return F.mse_loss(student_logits, teacher_logits.detach(), reduction="none").mean(dim=-1)


def require_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Refuse a pair that broadcasting would silently accept."""
    if student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ in shape")
