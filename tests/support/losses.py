"""Losses as users write them, valid and invalid. Experiments in tests name them `tests.support.losses:name`."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdmodels import losses


def soft(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Hinton's soft targets."""
    return losses.soft_targets(student_logits, teacher_logits, temperature=temperature)


def smoothed(student_logits: Tensor, labels: Tensor, *, epsilon: float = 0.1) -> Tensor:
    return losses.label_smoothing(student_logits, labels, epsilon=epsilon)


def correlated(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """A loss of a whole batch."""
    return losses.dist(student_logits, teacher_logits, beta=2.0, gamma=2.0, temperature=4.0)


def attention(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    return losses.attention_transfer([student_features], [teacher_features])


def relations(student_features: Tensor, teacher_features: Tensor, *, power: int = 2) -> Tensor:
    """Compare the examples of a batch, with one value per example."""
    one, two = (functional.normalize(each.flatten(1)) for each in (student_features, teacher_features))
    return (one @ one.mT - two @ two.mT).abs().pow(power).mean(1)


def by_numpy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Not possible under torch.func.vmap."""
    scale = teacher_logits.abs().max().item()
    return (student_logits - teacher_logits).square().mean() / scale


def everything(
    student_logits: Tensor, teacher_features: Tensor, labels: Tensor, student_features: Tensor, teacher_logits: Tensor,
    *, kind: Literal["l1", "l2"] = "l2", count: int, scaled: bool = False, scale: float | None = None, note="",
) -> Tensor:  # fmt: skip
    assert (type(count), type(scaled), scale, note) == (int, bool, None, "")
    apart = (student_logits - teacher_logits).abs().pow(2 if kind == "l2" else 1).mean(1)
    return apart * count + functional.cross_entropy(student_logits, labels, reduction="none") + 0 * scaled


def noisy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (student_logits - teacher_logits + torch.randn_like(student_logits)).square().mean(1)


def undefined(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (student_logits - teacher_logits.abs()).log().mean(1)


def constant(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (student_logits.argmax(1) - teacher_logits.argmax(1)).float().square()


def swapped(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (student_logits.detach() - teacher_logits).square().mean(1)


def steep(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (student_logits - student_logits + 0 * teacher_logits).sqrt().mean(1)


def by_class(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (student_logits - teacher_logits).square().mean(0)


def of_batch(student_logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(student_logits, labels)


def number(student_logits: Tensor, teacher_logits: Tensor) -> float:
    return (student_logits - teacher_logits).square().mean().item()


def failing(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    raise RuntimeError("no luck\ntoday")


class Projected(nn.Module):
    """A hint with a linear regressor."""

    def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...], *, initial: float = 0.0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(teacher_shape) + initial)
        self.regressor = nn.Linear(student_shape[0], teacher_shape[0], bias=False)

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        return (self.regressor(student_features) + self.bias - teacher_features).square().mean(1)


class Scaled(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return (student_logits - self.scale * teacher_logits).square().mean(1)


class Frozen(Scaled):
    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.scale.requires_grad_(False)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return super().forward(student_logits, teacher_logits)


class Plain:
    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return (student_logits - teacher_logits).square().mean(1)


class WithoutForward(nn.Module):
    pass
