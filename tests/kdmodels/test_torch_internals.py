"""Contract of the undocumented parts of torch that kdflow uses."""

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo import graph_break

from kdmodels.randomness import generator_for
from kdmodels.torch_internals import batch_norm_gradients, channel_statistics, compiler_exception

MAPS = torch.randn(4, 3, 5, 6, generator=generator_for(0, "maps")) + 2


def test_channel_statistics_are_the_mean_and_the_biased_variance() -> None:
    variance, mean = torch.var_mean(MAPS, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(channel_statistics(MAPS), (mean, variance))


def test_batch_norm_gradients_are_those_of_autograd() -> None:
    mean, variance = channel_statistics(MAPS)
    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    grad_outputs = torch.randn(MAPS.shape, generator=generator_for(0, "gradient"))
    output = F.batch_norm(MAPS, None, None, weight, bias, training=True, eps=1e-3)
    expected = torch.autograd.grad(output, [weight, bias], grad_outputs)
    computed = batch_norm_gradients(grad_outputs, MAPS, mean, (variance + 1e-3).rsqrt())
    torch.testing.assert_close(computed, expected, rtol=1e-4, atol=1e-5)


def test_a_failed_compilation_raises_the_compiler_exception() -> None:
    def broken(values: torch.Tensor) -> torch.Tensor:
        graph_break()
        return values

    with pytest.raises(compiler_exception()):
        torch.compile(broken, fullgraph=True, backend="eager")(torch.ones(2))
