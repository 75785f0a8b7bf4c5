"""Functions that use undocumented parts of torch. A test fails if an upgrade changes one of these parts.

Undocumented names of torch are also used in `kdmodels.files.torch_cache`. That module is separate because it must run
before torch is imported.
"""

import torch
from torch import Tensor


def channel_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (C,) and the biased variance (C,) of each channel of feature maps (B, C, H, W)."""
    mean, variance = torch.batch_norm_update_stats(maps, None, None, 0.0)
    return mean, variance


def batch_norm_gradients(grad_outputs: Tensor, maps: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of batch norm's weight, (C,), and bias, (C,).

    Args:
        grad_outputs: The gradients of the loss with respect to the outputs of batch norm, (B, C, H, W).
        maps: The inputs of batch norm, (B, C, H, W).
        mean: The mean of each channel of the inputs, (C,).
        scale: The value 1 / sqrt(variance + eps) of each channel of the inputs, (C,).
    """
    _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
        grad_outputs, maps, None, None, None, mean, scale, True, 0.0, [False, True, True]
    )
    return of_weight, of_bias


def compiler_exception() -> type[Exception]:
    """Return the base class of the exceptions that `torch.compile` raises."""
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415 - imports torch's compiler, which takes 2 s

    return TorchDynamoException
