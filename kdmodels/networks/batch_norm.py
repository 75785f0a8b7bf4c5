"""Batch norm of maps whose channels lie last, on the CPU: torch's own kernels, and the usual layout's precision.

In that layout a kernel of torch's adds a batch up value after value in float32, 65,536 of them for 64 maps of 32 x 32:
mean and variance are off by up to 7e-6 of their size, and a network's gradient by several times what float32 costs in
the usual layout (benchmarks/LOG.md). Here it is given the same memory as rows that hold some hundred positions each,
so that it adds up few values for each of many more channels, whose sums are joined.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

POSITIONS = 128  # that the kernel adds up one after the other, or a few more


def make_precise(network: nn.Module) -> None:
    """Let the network's batch norm of maps be that of this module; parameters and buffers stay what they are."""
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = BatchNorm2d


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, whose training on float32 maps of that layout is precise; all else is torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps (B, C, H, W), normalised."""
        if not self._is_ours(input):
            return super().forward(input)
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            mean, variance = moments(input)
            count = input.numel() // input.shape[1]
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        normalised: Tensor = _Normalise.apply(input, self.weight, self.bias, mean, variance, self.eps)
        return normalised

    def _is_ours(self, maps: Tensor) -> bool:
        return (
            self.training
            and self.affine
            and self.track_running_stats
            and self.momentum is not None
            and maps.is_cpu
            and maps.dtype == torch.float32
            and maps.is_contiguous(memory_format=torch.channels_last)
            and not maps.is_contiguous()
            and not torch.compiler.is_compiling()
        )


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (n, not n - 1) of each channel, (C,) both, of maps (B, C, H, W) whose channels lie last."""
    mean = maps.mean(dim=(0, 2, 3))  # which torch adds up pairwise, for an eighth of a normalisation's time
    means, variances = torch.batch_norm_update_stats(_rows(maps), None, None, 0.0)
    means, variances = means.view(-1, len(mean)), variances.view(-1, len(mean))
    return mean, variances.mean(dim=0) + (means - mean).square().mean(dim=0)


class _Normalise(torch.autograd.Function):
    """(maps - mean) / sqrt(variance + eps) * weight + bias, differentiated through mean and variance too."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(maps, weight, mean, variance)
        ctx.eps = eps
        return F.batch_norm(maps, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, mean, variance = ctx.saved_tensors
        pull = pull.contiguous(memory_format=torch.channels_last)
        channels, count = maps.shape[1], maps.numel() // maps.shape[1]
        rows, scale = _rows(maps), (variance + ctx.eps).rsqrt()
        many = rows.shape[1] // channels
        _, of_weights, of_biases = torch.ops.aten.native_batch_norm_backward(
            _rows(pull), rows, None, None, None, mean.repeat(many), scale.repeat(many), True, ctx.eps,
            [False, True, True],
        )  # fmt: skip
        of_weight, of_bias = (part.view(many, channels).sum(dim=0) for part in (of_weights, of_biases))
        # weight * scale * (pull - mean of pull - normalised * mean of (pull * normalised)), in two passes over memory.
        factor = weight * scale
        of_maps = F.batch_norm(
            maps, mean, variance, -factor * of_weight / count, -factor * of_bias / count, eps=ctx.eps
        ).addcmul_(pull, factor.view(-1, 1, 1))
        return of_maps, of_weight, of_bias, None, None, None


def _rows(maps: Tensor) -> Tensor:
    """The same memory as (positions in a row, rows x C, 1, 1): a channel of each row is a channel for the kernel."""
    batch, _, height, width = maps.shape
    positions = _positions(batch * height * width)
    return maps.permute(0, 2, 3, 1).reshape(positions, -1, 1, 1)


@lru_cache
def _positions(count: int) -> int:
    """The smallest divisor of a count that is at least `POSITIONS`, or the count.

    >>> _positions(64 * 32 * 32), _positions(125 * 31 * 31), _positions(100)
    (128, 155, 100)
    """
    return next((number for number in range(POSITIONS, count) if count % number == 0), count)
