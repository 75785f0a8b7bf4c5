"""Weight decay without norms and biases, clipping per replica, and averages with a short memory at first."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from kdmodels.experiment import Network
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training.optimizers import Optimizer, average, clipped, norms_and_biases, row_optimizers


class Attention(nn.Module):
    """Layers as in other libraries, with other parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm([2, 4])
        self.scale = nn.Parameter(torch.ones(4))
        self.position = nn.Parameter(torch.ones(2, 4))


def test_only_matrices_and_kernels_decay() -> None:
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
def test_steps_equal_those_of_torchs_optimizers(written: dict[str, Any]) -> None:
    """Learning rates change, one tensor has no decay, and one tensor gets its first gradient late."""
    ((name, arguments),) = written.items()
    generator = generator_for(0, "steps")
    start = {name: torch.randn(2, 3, generator=generator) for name in ("weight", "bias", "late")}
    updated = {name: tensor.clone() for name, tensor in start.items()}
    reference = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    groups = [
        {"params": [reference["weight"], reference["late"]]},
        {"params": [reference["bias"]], "weight_decay": 0.0},
    ]
    # Not fused: torch's fused SGD can't take a tensor whose first gradient comes later than another's.
    expected = classes[name](groups, **arguments, foreach=False)
    found = Optimizer(written, updated, {"bias"})
    for number in range(5):
        gradients = {name: torch.randn(2, 3, generator=generator) for name in ("weight", "bias", "late")}
        if number < 2:
            del gradients["late"]
        for group in expected.param_groups:
            group["lr"] = arguments["lr"] * 0.5**number
        for name, tensor in reference.items():
            tensor.grad = gradients.get(name)
        expected.step()
        found.step(gradients, 0.5**number)
    for name, tensor in updated.items():
        torch.testing.assert_close(tensor, reference[name].detach(), rtol=1e-5, atol=1e-6)
        assert not torch.equal(tensor, start[name])


@pytest.mark.parametrize(
    "written", [{"adamw": {"lr": 9.0, "amsgrad": True}}, {"sgd": {"lr": 9.0, "momentum": 0.9, "weight_decay": 0.01}}]
)
def test_each_row_is_updated_exactly_as_alone_with_its_learning_rate(written: dict[str, Any]) -> None:
    rates, generator = [0.1, 0.003, 0.1], generator_for(0, "rows")
    start = {"weight": torch.randn(3, 37, 5, generator=generator), "bias": torch.randn(3, 37, generator=generator)}
    together, ((name, arguments),) = {key: tensor.clone() for key, tensor in start.items()}, written.items()
    rows = row_optimizers(written, together, {"bias"}, rates)
    apart = [{key: tensor[[row]].clone() for key, tensor in start.items()} for row in range(3)]
    alone = [
        Optimizer({name: arguments | {"lr": rate}}, tensors, {"bias"})
        for rate, tensors in zip(rates, apart, strict=True)
    ]
    for number in range(4):
        gradients = {key: torch.randn(tensor.shape, generator=generator) for key, tensor in start.items()}
        rows.step(gradients, 0.5**number)
        for row, optimizer in enumerate(alone):
            optimizer.step({key: gradient[[row]] for key, gradient in gradients.items()}, 0.5**number)
    for key, tensor in together.items():
        assert torch.equal(tensor, torch.cat([tensors[key] for tensors in apart]))


def test_rows_with_one_learning_rate_have_one_optimizer() -> None:
    optimizer = row_optimizers({"sgd": {"lr": 9.0}}, {"weight": torch.zeros(2, 3)}, (), [0.5, 0.5])
    assert isinstance(optimizer, Optimizer)
    assert optimizer.arguments["lr"] == 0.5


def test_the_memory_layout_of_a_gradient_does_not_matter() -> None:
    weights = [{"weight": torch.zeros(2, 3)} for _ in range(2)]
    gradient = torch.arange(6.0).view(3, 2)
    for tensors, given in zip(weights, (gradient.T, gradient.T.contiguous()), strict=True):
        Optimizer({"sgd": {"lr": 1.0}}, tensors).step({"weight": given}, 1.0)
        assert torch.equal(tensors["weight"], -gradient.T)


def test_torchs_compiler_is_not_imported_to_train() -> None:
    code = """
import sys, torch
from kdmodels.data.split import Split
from kdmodels.experiment import Network, Recipe
from kdmodels.networks import build
from kdmodels.experiment.terms import Term
from kdmodels.training import fit
split = Split(torch.rand(8, 1, 4, 4), torch.arange(8) % 3)
for network in (Network(mlp=[3]), Network(conv=[2])):
    student = build(network, input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    fit(student, [Term(loss="hard_labels")], Recipe(epochs=1), split, split, seeds=[0, 1])
print("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_each_replica_is_clipped_by_its_own_norm() -> None:
    generator = generator_for(0, "clip")
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
