"""Losses on logits. To add a loss, see `kdmodels/losses/__init__.py`.

The losses compute in float32 and return float32, because a squared logit of 1e4 overflows float16. `standardise` and
`dist` divide by the spread of the logits. If the spread is below 1e-3 but not 0, a float16 gradient overflows.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from kdmodels.losses.ensemble import ensemble_logits
from kdmodels.losses.numerics import full_precision, log_softmax, require_labels, require_same_shape, softened
from kdmodels.losses.term_loss import Builder, on_labels, on_logits, on_logits_and_labels


def hard_labels(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy with the labels. The control, a student without a teacher, is trained with this loss.

    Args:
        student_logits: Logits of shape (B, K).
        labels: Class indices of shape (B,).

    Returns:
        Values of shape (B,), in nats.

    Raises:
        ValueError: The numbers of labels and examples differ.

    Example:
        >>> import torch
        >>> hard_labels(torch.zeros(1, 4), torch.tensor([2]))
        tensor([1.3863])
    """
    require_labels(student_logits, labels)
    return F.nll_loss(log_softmax(full_precision(student_logits)), labels, reduction="none")


def label_smoothing(student_logits: Tensor, labels: Tensor, *, epsilon: float | Tensor = 0.1) -> Tensor:
    """Return the cross entropy with a mixture of the label and the uniform distribution.

    In the mixture, each of the K classes has a probability of epsilon / K, and 1 - epsilon is added to the probability
    of the label. Adding a constant to all logits of an example does not change the value.

    Args:
        student_logits: Logits of shape (B, K).
        labels: Class indices of shape (B,).
        epsilon: Weight of the uniform distribution, in [0, 1).

    Returns:
        Values of shape (B,), in nats.

    Raises:
        ValueError: Epsilon is outside [0, 1), or the numbers of labels and examples differ.

    References:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7.

    Example:
        >>> import torch
        >>> label_smoothing(torch.tensor([[0.0, 2.0]]), torch.tensor([1]), epsilon=0.5)
        tensor([0.6269])
    """
    if not isinstance(epsilon, Tensor) and not 0 <= epsilon < 1:  # `vmap` cannot read the value of a tensor
        raise ValueError(f"epsilon {epsilon} is outside [0, 1)")
    require_labels(student_logits, labels)
    log_q = log_softmax(full_precision(student_logits))
    return (1 - epsilon) * F.nll_loss(log_q, labels, reduction="none") - epsilon * log_q.mean(dim=-1)


def soft_targets(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 4.0) -> Tensor:
    """Return KL(teacher || student) of the softmax of logits / temperature, times temperature squared.

    The factor temperature² keeps the size of the gradient comparable across temperatures. The value is zero if and only
    if the two distributions are equal. Adding a constant to all logits of an example does not change the value.

    Args:
        student_logits, teacher_logits: Logits of shape (B, K). No gradient reaches the teacher.
        temperature: Positive temperature of the softmax.

    Returns:
        Values of shape (B,), in nats.

    Raises:
        ValueError: The temperature is not positive, or the shapes differ.

    References:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.

    Example:
        >>> import torch
        >>> soft_targets(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=1.0)
        tensor([0.3278])
    """
    log_q, log_p = _log_classes(student_logits, teacher_logits, temperature)
    return temperature**2 * _kl(log_p, log_q)


def reverse_soft_targets(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 4.0
) -> Tensor:
    """Return KL(student || teacher) of the softmax of logits / temperature, times temperature squared.

    The loss penalises the student for probability on classes to which the teacher assigns almost none. It hardly
    penalises a student that ignores some of the teacher's likely classes. The value is zero if and only if the two
    distributions are equal. Adding a constant to all logits of an example does not change the value.

    Args:
        student_logits, teacher_logits: Logits of shape (B, K). No gradient reaches the teacher.
        temperature: Positive temperature of the softmax.

    Returns:
        Values of shape (B,), in nats.

    Raises:
        ValueError: The temperature is not positive, or the shapes differ.

    References:
        Gu, Dong, Wei, Huang, "MiniLLM: Knowledge Distillation of Large Language Models", 2024, section 2.

    Example:
        >>> import torch
        >>> reverse_soft_targets(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=1.0)
        tensor([0.4338])
    """
    log_q, log_p = _log_classes(student_logits, teacher_logits, temperature)
    return temperature**2 * _kl(log_q, log_p)


def standardise(logits: Tensor) -> Tensor:
    """Return logits with mean 0 and standard deviation 1, so that a student need not match its teacher's scale.

    Adding a constant to the logits does not change the result. Multiplying the logits by a positive number does not
    change the result either, except for the 1e-7 that is added to the standard deviation. If all logits are equal, the
    result is zero and has no gradient. If K = 2, only the order of the logits remains, and the gradient is close to
    zero.

    Args:
        logits: Logits of shape (..., K).

    Returns:
        Values of shape (..., K).

    Raises:
        ValueError: There are fewer than two classes, because a single logit has no standard deviation.

    References:
        Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", 2024.

    Example:
        >>> import torch
        >>> standardise(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[-1.0000,  0.0000,  1.0000]])
    """
    classes = logits.shape[-1]
    if classes < 2:
        raise ValueError(f"logits of shape {tuple(logits.shape)} have fewer than two classes, so no standard deviation")
    centred = _centred(full_precision(logits))  # (B, K)
    deviation = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / (classes - 1) ** 0.5  # (B, 1)
    # Without `where`, equal logits would have a gradient of 1e7.
    return torch.where(deviation > 0, centred / (deviation + 1e-7), 0.0)


def standardised_soft_targets(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 2.0
) -> Tensor:
    """Return `soft_targets` of standardised logits.

    Standardised logits keep the order of the classes and the proportions of their differences, but not their scale.
    The value is zero if the student's logits are a positive multiple of the teacher's logits plus a constant. If
    K = 2, the gradient is close to zero; see `standardise`.

    Args:
        student_logits: Logits of shape (B, K).
        teacher_logits: Logits of shape (B, K), or (B, M, K) for an ensemble of M members. The logits of each member are
            standardised and softened, and the members' distributions are averaged. No gradient reaches the teacher.
        temperature: Positive temperature of the softmax.

    Returns:
        Values of shape (B,), in nats.

    Raises:
        ValueError: The temperature is not positive, the shapes differ, or there are fewer than two classes.

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
    alpha: float | Tensor = 1.0,
    beta: float | Tensor = 8.0,
    temperature: float | Tensor = 4.0,
) -> Tensor:
    """Return the `soft_targets` loss, split into two parts with separate weights.

    The first part is the KL divergence of the distributions over two outcomes: the label, and all other classes
    together. The second part is the KL divergence of the distributions over the other classes. If K = 2, the second
    part is zero. In `soft_targets`, the weight of the second part is the teacher's total probability of the other
    classes. This weight is almost zero if the teacher is confident.

    The value is zero if and only if the softened distributions of student and teacher are equal. Adding a constant to
    all logits of an example does not change the value.

    Args:
        student_logits, teacher_logits: Logits of shape (B, K). No gradient reaches the teacher.
        labels: Class indices of shape (B,).
        alpha: Weight of the first part.
        beta: Weight of the second part.
        temperature: Positive temperature of the softmax.

    Returns:
        Values of shape (B,), in nats.

    Raises:
        ValueError: The temperature is not positive, the shapes differ, the numbers of labels and examples differ, or
            there are fewer than two classes.

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
        raise ValueError(f"logits of shape {tuple(student_logits.shape)} have fewer than two classes")
    student_odds, log_q = _label_and_rest(softened(student_logits, temperature), labels)
    teacher_odds, log_p = _label_and_rest(softened(teacher_logits.detach(), temperature), labels)
    binary = _kl(_log_binary(teacher_odds), _log_binary(student_odds))
    return temperature**2 * (alpha * binary + beta * _kl(log_p, log_q))


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float | Tensor = 2.0,
    gamma: float | Tensor = 2.0,
    temperature: float | Tensor = 4.0,
) -> Tensor:
    """Return temperature² * (beta * (1 - mean row correlation) + gamma * (1 - mean column correlation)).

    A row holds the softened probabilities of one example, and a column holds the probabilities of one class. Each
    correlation is Pearson's correlation of a row or column of the student with the same row or column of the teacher.
    1e-8 is added to the denominator of a correlation.

    Adding a constant to all logits of an example, or reordering examples or classes, does not change the value. If a
    row or column of the student or the teacher is constant, its correlation is 0 and has no gradient. A row is constant
    if all logits of the example are equal. With one example, all columns are constant.

    Args:
        student_logits, teacher_logits: Logits of shape (B, K). No gradient reaches the teacher.
        beta: Weight of the correlation of rows.
        gamma: Weight of the correlation of columns.
        temperature: Positive temperature of the softmax.

    Returns:
        A scalar, one value per batch.

    Raises:
        ValueError: The temperature is not positive, or the shapes differ.

    References:
        Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", 2022.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> dist(logits, -logits, temperature=1.0)
        tensor(8.0000)
    """
    require_same_shape(student_logits, teacher_logits)
    q = F.softmax(softened(student_logits, temperature), dim=-1)  # (B, K)
    p = F.softmax(softened(teacher_logits.detach(), temperature), dim=-1)  # (B, K)
    rows = 1 - _correlation(q, p).mean()
    columns = 1 - _correlation(q.mT, p.mT).mean()
    return temperature**2 * (beta * rows + gamma * columns)


def logit_regression(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the squared difference of the logits, averaged over the classes.

    The value is zero if and only if the logits are equal. Adding a constant to the student's logits changes the value,
    unlike in `soft_targets`. Adding the same constant to the student's and the teacher's logits does not change the
    value.

    Args:
        student_logits, teacher_logits: Logits of shape (B, K). No gradient reaches the teacher.

    Returns:
        Values of shape (B,).

    Raises:
        ValueError: The shapes differ.

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


def _log_classes(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of the student and the teacher after softening, (B, K) each."""
    require_same_shape(student_logits, teacher_logits)
    student, teacher = (softened(logits, temperature) for logits in (student_logits, teacher_logits.detach()))
    return log_softmax(student), log_softmax(teacher)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    # torch.func has no batching rule for F.kl_div and would loop over the replicas.
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _label_and_rest(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-odds of the label, (B,), and the log-softmax over the other classes, (B, K - 1)."""
    # Use `gather`, because a mask of minus infinity would turn 0 * (inf - inf) into NaN.
    others = torch.arange(logits.shape[-1] - 1, device=logits.device)
    others = others + (others >= labels.unsqueeze(-1))  # (B, K - 1), skips the label
    label_logits, other_logits = logits.gather(-1, labels.unsqueeze(-1)), logits.gather(-1, others)
    odds = label_logits.squeeze(-1) - other_logits.logsumexp(dim=-1)
    return odds, log_softmax(other_logits)


def _log_binary(log_odds: Tensor) -> Tensor:
    """Return log(p) and log(1 - p), (B, 2), for log-odds (B,) of p. Both are finite even if p rounds to 0 or 1."""
    return F.logsigmoid(torch.stack([log_odds, -log_odds], dim=-1))


def _centred(rows: Tensor) -> Tensor:
    """Return rows minus their mean. A constant row gives exactly zero, because its first entry is subtracted first."""
    rows = rows - rows[..., :1]
    return rows - rows.mean(dim=-1, keepdim=True)


def _correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return Pearson's correlation of each row of the student with the teacher's row. For a constant row, return 0."""
    student, teacher = _centred(student), _centred(teacher)
    norms = torch.linalg.vector_norm(student, dim=-1) * torch.linalg.vector_norm(teacher, dim=-1)
    # Without `where`, a constant student would have a gradient of 1e8.
    return torch.where(norms > 0, (student * teacher).sum(dim=-1) / (norms + 1e-8), 0.0)


BUILDERS: Mapping[str, Builder] = {
    "hard_labels": on_labels(hard_labels),
    "label_smoothing": on_labels(label_smoothing),
    "soft_targets": on_logits(soft_targets),
    "reverse_soft_targets": on_logits(reverse_soft_targets),
    "standardised_soft_targets": on_logits(standardised_soft_targets),
    "logit_regression": on_logits(logit_regression),
    "decoupled": on_logits_and_labels(decoupled),
    "dist": on_logits(dist),
}
