"""Batch norm that is precise on the CPU for maps in the channels-last memory layout.

Convolutions are faster in the channels-last layout (`kdmodels.networks.layout`). In this layout, however, torch's batch
norm kernel adds the values of a channel one after the other in float32. For 64 maps of 32 x 32, these are 65,536
values. The relative error of mean and variance is then up to 7e-6, and the error of a network's gradient is several
times as large as in the usual layout (benchmarks/LOG.md).

The layer of this module views the same memory as rows of a few hundred positions. The kernel treats the channels of
each row as separate channels and therefore adds fewer values per sum. The layer then combines the sums of the rows.
kdflow's networks and losses use this layer. Layers of other networks are not replaced.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from kdmodels.torch_internals import batch_norm_gradients, channel_statistics

POSITIONS = 128
"""Minimum number of positions in a row. The kernel adds the values of a row one after the other."""


class BatchNorm2d(nn.BatchNorm2d):
    """Variant of `torch.nn.BatchNorm2d` that is precise in training on float32 maps in the channels-last layout.

    The layer uses its precise computation only in training mode and for such maps on the CPU. Computing a second
    derivative then raises RuntimeError. In all other cases, the layer computes the same as torch's layer. Parameters
    and buffers have the same names as in torch's layer.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return normalised maps (B, C, H, W)."""
        momentum, mean, variance, count = self.momentum, self.running_mean, self.running_var, self.num_batches_tracked
        if momentum is None or mean is None or variance is None or count is None or not self._applies_to(input):
            return super().forward(input)
        with torch.no_grad():
            batch_mean, batch_variance = moments(input)
            values = input.numel() // input.shape[1]
            count.add_(1)
            mean.lerp_(batch_mean, momentum)
            variance.lerp_(batch_variance * (values / (values - 1)), momentum)
        normalised: Tensor = _Normalise.apply(input, self.weight, self.bias, batch_mean, batch_variance, self.eps)
        return normalised

    def _applies_to(self, maps: Tensor) -> bool:
        return (
            self.training
            and self.affine
            and maps.is_cpu
            and maps.dtype == torch.float32
            and maps.is_contiguous(memory_format=torch.channels_last)
            and not maps.is_contiguous()
            and not torch.compiler.is_compiling()
        )


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance of each channel of maps.

    Args:
        maps: Maps of shape (B, C, H, W) in the channels-last memory layout.

    Returns:
        The mean (C,) and the biased variance (C,), whose divisor is B * H * W.
    """
    mean = maps.mean(dim=(0, 2, 3))  # torch uses pairwise sums here, which take 1/8 of the time of a normalisation
    means, variances = channel_statistics(_rows(maps))
    means, variances = means.view(-1, len(mean)), variances.view(-1, len(mean))  # (rows, C)
    return mean, variances.mean(dim=0) + (means - mean).square().mean(dim=0)


class _Normalise(torch.autograd.Function):
    """Autograd function that computes (maps - mean) / sqrt(variance + eps) * weight + bias.

    `mean` and `variance` must be the results of `moments` for the maps. The gradient of the maps takes into account
    that both results depend on the maps.
    """

    @staticmethod
    def forward(  # noqa: PLR0913 - autograd needs every tensor as a separate argument
        ctx: FunctionCtx, maps: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(maps, weight, mean, variance)
        ctx.eps = eps  # type: ignore[attr-defined]
        return F.batch_norm(maps, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, mean, variance = ctx.saved_tensors  # type: ignore[attr-defined]
        eps: float = ctx.eps  # type: ignore[attr-defined]
        grad_outputs = grad_outputs.contiguous(memory_format=torch.channels_last)
        channels, count = maps.shape[1], maps.numel() // maps.shape[1]
        rows, scale = _rows(maps), (variance + eps).rsqrt()
        number = rows.shape[1] // channels
        of_weights, of_biases = batch_norm_gradients(
            _rows(grad_outputs), rows, mean.repeat(number), scale.repeat(number)
        )
        of_weight, of_bias = (part.view(number, channels).sum(dim=0) for part in (of_weights, of_biases))  # (C,)
        # Compute weight * scale * (g - mean(g) - normalised * mean(g * normalised)) in two passes over memory, where g
        # is the gradient of the outputs.
        factor = weight * scale
        of_maps = F.batch_norm(
            maps, mean, variance, -factor * of_weight / count, -factor * of_bias / count, eps=eps
        ).addcmul_(grad_outputs, factor.view(-1, 1, 1))
        return of_maps, of_weight, of_bias, None, None, None


def _rows(maps: Tensor) -> Tensor:
    """View maps (B, C, H, W) in the channels-last layout as a tensor (positions per row, rows * C, 1, 1).

    A row is a part of the B * H * W positions. The kernel treats each channel of each row as a separate channel.
    """
    batch, _, height, width = maps.shape
    positions = _positions(batch * height * width)
    return maps.permute(0, 2, 3, 1).reshape(positions, -1, 1, 1)


@lru_cache
def _positions(count: int) -> int:
    """Return the number of positions per row, for maps with `count` positions in total.

    The result is the smallest divisor of `count` that is at least `POSITIONS`. If there is no such divisor, the result
    is `count`.

    >>> _positions(64 * 32 * 32), _positions(125 * 31 * 31), _positions(100)
    (128, 155, 100)
    """
    return next((number for number in range(POSITIONS, count) if count % number == 0), count)
