"""What losses have in common: what they refuse, precision, log-probabilities."""

import torch
import torch.nn.functional as F
from torch import Tensor

FEW, MANY = 16, 128  # classes, examples


def require_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Refuse a pair that broadcasting would silently accept."""
    if student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ in shape")


def require_labels(logits: Tensor, labels: Tensor) -> None:
    """Refuse labels that are not one class index per example."""
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels {tuple(labels.shape)} are not one for each of logits {tuple(logits.shape)}")


def full_precision(tensor: Tensor) -> Tensor:
    """Half precision as float32; anything wider as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def unrounded(tensor: Tensor) -> torch.autocast:
    """A context in which autocast, on the tensor's device, rounds nothing to half precision."""
    return torch.autocast(tensor.device.type, enabled=False)


def log_softmax(logits: Tensor) -> Tensor:
    """Over the classes (..., K). Where they are few and the examples many, the CPU is faster with the classes first.

    Its kernel for rows that are shorter than a vector register takes up to 15 times as long (benchmarks/LOG.md).
    """
    if logits.shape[-1] < FEW and logits.shape[0] >= MANY and logits.device.type == "cpu":
        return F.log_softmax(logits.movedim(-1, 0), dim=0).movedim(0, -1)
    return F.log_softmax(logits, dim=-1)
