"""Memory, against sums by hand."""

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from kdmodels.evaluation.costs import memory, served_costs
from kdmodels.serving.model_file import ServedModel
from tests.support.served import onnx_of


class Branches(nn.Module):
    """A network with two outputs of 100 numbers that are alive at once, after their inputs were freed."""

    def forward(self, images: Tensor) -> Tensor:
        wide = images.flatten(1).repeat(1, 100)  # (N, 1600)
        return ((wide[:, :100] + 1) * (wide[:, 100:200] + 2))[:, :10]


class Views(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1).reshape(-1, 4, 4).flatten(1) + 1).relu()


def parsed(module: nn.Module) -> ModelProto:
    return ModelProto.FromString(onnx_of(module, (1, 4, 4)))


@pytest.mark.parametrize("batch", [1, 64])
def test_a_linear_layer_holds_its_weights_the_images_and_the_logits(batch: int) -> None:
    weights, alive = memory(parsed(nn.Sequential(nn.Flatten(), nn.Linear(16, 10))), batch)
    assert weights == 4 * (16 * 10 + 10) + 8 * 2  # and the 2 numbers of the target shape
    assert alive == 4 * batch * (16 + 10)


def test_a_reshaped_tensor_costs_no_memory() -> None:
    _, alive = memory(parsed(Views()), 1)
    assert alive == 4 * 3 * 16  # the images, the sum, and the sum's positive part


def test_memory_that_is_no_longer_used_is_freed() -> None:
    """The peak is when the repeated images and the first slice are alive, not the later tensors."""
    _, alive = memory(parsed(Branches()), 1)
    assert 4 * (16 + 1600 + 100) <= alive <= 4 * (16 + 1600 + 3 * 100) + 100


def test_figures_have_the_names_of_their_metrics_and_add_up_over_an_ensemble() -> None:
    torch.manual_seed(0)
    served = ServedModel(onnx_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)), (1, 4, 4)))
    one, two = served_costs([served]), served_costs([served, served])
    assert list(one) == [
        "cost/memory_mb",
        "latency/p50_ms",
        "latency/p95_ms",
        "cost/memory_mb_batch64",
        "latency/p50_ms_batch64",
        "latency/p95_ms_batch64",
    ]
    weights, alive = memory(served.model, 1)
    assert one["cost/memory_mb"] == pytest.approx((weights + alive) / 1e6)
    assert two["cost/memory_mb"] == pytest.approx((2 * weights + alive) / 1e6)
    assert 0 < one["latency/p50_ms"] <= one["latency/p95_ms"]
    assert served(np.zeros((3, 1, 4, 4), np.float32)).shape == (3, 10)
