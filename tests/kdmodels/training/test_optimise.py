"""Decay off norms and biases, each replica's own gradient norm, averages with a short memory at first."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from kdmodels.experiment import Network
from kdmodels.networks import build
from kdmodels.randomness import stream
from kdmodels.training.optimise import Optimizer, average, clipped, norms_and_biases


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


@pytest.mark.parametrize(
    "written",
    [
        {"adam": {"lr": 0.01}},
        {"adam": {"lr": 0.01, "betas": [0.8, 0.99], "weight_decay": 0.1, "amsgrad": True, "eps": 1e-5}},
        {"adamw": {"lr": 0.01}},
        {"adamw": {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True}},
        {"sgd": {"lr": 0.1}},
        {"sgd": {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}},
        {"sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": True}},
    ],
)
def test_steps_are_those_of_torchs_optimisers(written: dict[str, Any]) -> None:
    """With rates that change, decay kept off one tensor, and one whose gradient comes late."""
    ((name, arguments),) = written.items()
    generator = stream(0, "steps")
    start = {name: torch.randn(2, 3, generator=generator) for name in ("weight", "bias", "late")}
    mine = {name: tensor.clone() for name, tensor in start.items()}
    theirs = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    groups = [
        {"params": [theirs["weight"], theirs["late"]]},
        {"params": [theirs["bias"]], "weight_decay": 0.0},
    ]
    # Not fused: torch's fused SGD can't take a tensor whose first gradient comes later than another's.
    expected = classes[name](groups, **arguments, foreach=False)
    found = Optimizer(written, mine, {"bias"})
    for number in range(5):
        gradients = {name: torch.randn(2, 3, generator=generator) for name in ("weight", "bias", "late")}
        if number < 2:
            del gradients["late"]
        for group in expected.param_groups:
            group["lr"] = arguments["lr"] * 0.5**number
        for name, tensor in theirs.items():
            tensor.grad = gradients.get(name)
        expected.step()
        found.step(gradients, 0.5**number)
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name].detach(), rtol=1e-5, atol=1e-6)
        assert not torch.equal(tensor, start[name])


def test_a_gradient_that_is_laid_out_otherwise_is_the_same_gradient() -> None:
    weights = [{"weight": torch.zeros(2, 3)} for _ in range(2)]
    gradient = torch.arange(6.0).view(3, 2)
    for tensors, given in zip(weights, (gradient.T, gradient.T.contiguous()), strict=True):
        Optimizer({"sgd": {"lr": 1.0}}, tensors).step({"weight": given}, 1.0)
        assert torch.equal(tensors["weight"], -gradient.T)


def test_torchs_compiler_is_not_imported_to_train() -> None:
    code = """
import sys, torch
from kdmodels.data.dataset import Split
from kdmodels.experiment import Network, Recipe
from kdmodels.networks import build
from kdmodels.terms import Term
from kdmodels.training import fit
split = Split(torch.rand(8, 1, 4, 4), torch.arange(8) % 3)
for network in (Network(mlp=[3]), Network(conv=[2])):
    student = build(network, input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    fit(student, [Term(loss="hard_labels")], Recipe(epochs=1), split, split, seeds=[0, 1])
print("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_each_replica_is_clipped_by_its_own_norm() -> None:
    generator = stream(0, "clip")
    sizes = torch.tensor([0.01, 1.0, 100.0])
    gradients = {
        str(shape): torch.randn(3, *shape, generator=generator) * sizes.view(-1, *[1] * len(shape))
        for shape in ((4, 5), (5,), (2, 3, 3, 3))
    }
    found = clipped(gradients, 2.0)
    for row in range(3):
        rows = [torch.zeros_like(tensor[row]).requires_grad_() for tensor in gradients.values()]
        for one, tensor in zip(rows, gradients.values(), strict=True):
            one.grad = tensor[row].clone()
        nn.utils.clip_grad_norm_(rows, 2.0)
        for one, tensor in zip(rows, found.values(), strict=True):
            torch.testing.assert_close(tensor[row], one.grad)
    assert torch.equal(found["(5,)"][0], gradients["(5,)"][0])


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
