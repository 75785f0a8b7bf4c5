"""Helpers for all losses: checks of shapes and temperatures, conversion of data types, and log-probabilities."""

import torch
import torch.nn.functional as F
from torch import Tensor

FEW, MANY = 16, 128  # `log_softmax` moves the class dimension for fewer than FEW classes and at least MANY examples


def require_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Raise ValueError if shapes differ. Without this check, broadcasting would silently accept different shapes."""
    if student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ in shape")


def require_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless there is one label per example."""
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"expected one label per example, got {tuple(labels.shape)} for logits {tuple(logits.shape)}")


def require_positive(temperature: float | Tensor) -> None:
    """Raise ValueError if a temperature is not positive. A tensor is not checked: `vmap` can't read its value."""
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"temperature {temperature} is not positive")


def full_precision(tensor: Tensor) -> Tensor:
    """Return a half-precision tensor as float32, and a wider tensor unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def softened(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return logits divided by a positive temperature, in float32 or wider."""
    require_positive(temperature)
    return full_precision(logits) / temperature


def unrounded(tensor: Tensor) -> torch.autocast:
    """Return a context that turns off autocast on the tensor's device, so that nothing is rounded to half precision."""
    return torch.autocast(tensor.device.type, enabled=False)


def log_softmax(logits: Tensor) -> Tensor:
    """Return the log-softmax over the classes of logits (..., K).

    For few classes and many examples on the CPU, the class dimension is moved to the front. In the last dimension, rows
    of so few classes are shorter than a vector register. Torch's kernel for such rows takes up to 15 times as long
    (benchmarks/LOG.md).
    """
    if logits.shape[-1] < FEW and logits.shape[0] >= MANY and logits.device.type == "cpu":
        return F.log_softmax(logits.movedim(-1, 0), dim=0).movedim(0, -1)
    return F.log_softmax(logits, dim=-1)
