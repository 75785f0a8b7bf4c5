"""Decay off norms and biases, each replica's own gradient norm, averages with a short memory at first."""

import pytest
import torch
from torch import nn

from kdmodels.experiment import Network
from kdmodels.networks import build
from kdmodels.randomness import stream
from kdmodels.training.optimise import average, clip_gradients, make_optimizer, norms_and_biases


class Attention(nn.Module):
    """Layers of other libraries, whose parameters have names of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm([2, 4])
        self.scale = nn.Parameter(torch.ones(4))
        self.position = nn.Parameter(torch.ones(2, 4))


def test_what_decays_are_the_matrices_and_kernels() -> None:
    convolutional = build(Network(conv=[2]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    assert norms_and_biases(convolutional) == {"block1.norm.weight", "block1.norm.bias", "head.bias"}
    assert norms_and_biases(Attention()) == {
        "attention.in_proj_bias", "attention.out_proj.bias", "norm.weight", "norm.bias", "scale"}  # fmt: skip


def test_one_group_where_nothing_decays() -> None:
    tensors = {"weight": torch.ones(2, 3, requires_grad=True), "bias": torch.ones(2, 1, requires_grad=True)}
    for optimizer, groups in (({"sgd": {"lr": 0.1}}, 1), ({"adamw": {"lr": 0.1}}, 2)):  # adamw's default is 0.01
        assert len(make_optimizer(optimizer, tensors, {"bias"}).param_groups) == groups
    two = make_optimizer({"sgd": {"lr": 0.1, "weight_decay": 0.5}}, tensors, {"bias"}).param_groups
    assert [(group["params"][0].shape[1], group["weight_decay"]) for group in two] == [(3, 0.5), (1, 0.0)]


def test_each_replica_is_clipped_by_its_own_norm() -> None:
    generator = stream(0, "clip")
    tensors = [torch.zeros(3, *shape, requires_grad=True) for shape in ((4, 5), (5,), (2, 3, 3, 3))]
    unused = torch.zeros(3, 2, requires_grad=True)
    for tensor in tensors:
        tensor.grad = torch.randn(tensor.shape, generator=generator) * torch.tensor([0.01, 1.0, 100.0]).view(
            -1, *[1] * (tensor.ndim - 1)
        )
    expected = []
    for row in range(3):
        rows = [torch.zeros_like(tensor[row]).requires_grad_() for tensor in tensors]
        for one, tensor in zip(rows, tensors, strict=True):
            assert tensor.grad is not None
            one.grad = tensor.grad[row].clone()
        nn.utils.clip_grad_norm_(rows, 2.0)
        expected.append([one.grad for one in rows])
    before = tensors[0].grad[0].clone()  # type: ignore[index]
    clip_gradients([*tensors, unused], 2.0)
    assert torch.equal(tensors[0].grad[0], before)  # type: ignore[index]
    assert unused.grad is None
    for row, gradients in enumerate(expected):
        for tensor, gradient in zip(tensors, gradients, strict=True):
            torch.testing.assert_close(tensor.grad[row], gradient)  # type: ignore[index]


def test_an_average_forgets_its_start_first_fast_then_slowly() -> None:
    kept, weights = torch.zeros(1), torch.ones(1)
    average({"w": kept}, {"w": weights}, decay=0.9, step=0)
    assert kept.item() == pytest.approx(0.9)  # 1 - 1 / 10
    average({"w": kept}, {"w": weights}, decay=0.9, step=1)
    assert kept.item() == pytest.approx(1 - 0.1 * 2 / 11)
    kept.zero_()
    average({"w": kept}, {"w": weights}, decay=0.9, step=10_000)
    assert kept.item() == pytest.approx(0.1)


def test_numbers_of_batches_are_copied_and_what_is_shared_is_left_alone() -> None:
    shared, moved = torch.ones(2), torch.tensor([4.0])
    kept = {"mean": torch.tensor([2.0]), "count": torch.tensor(1), "bank": shared}
    average(kept, {"mean": moved, "count": torch.tensor(7), "bank": shared}, decay=0.5, step=100)
    assert (kept["mean"].item(), kept["count"].item(), kept["bank"]) == (3.0, 7, shared)
    assert shared.tolist() == [1, 1]
