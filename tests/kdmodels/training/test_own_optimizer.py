"""Optimizers that an experiment names as module:Class equal those of torch, resume, and are checked before training."""

from typing import Any

import pytest
import torch

from kdmodels.data import Split
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import Replica, fit
from kdmodels.training.optimizers import row_optimizers
from kdmodels.training.own_optimizer import check

OWN = "tests.support.optimizers:"
CLASSES: list[tuple[str, type[torch.optim.Optimizer], dict[str, Any]]] = [
    (
        "RMSprop",
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1, "centered": True},
    ),
    ("NAdam", torch.optim.NAdam, {"lr": 0.01, "betas": [0.8, 0.9]}),
    ("Rprop", torch.optim.Rprop, {"lr": 0.01}),
    ("Adafactor", torch.optim.Adafactor, {"lr": 0.01}),
]


@pytest.mark.parametrize(("name", "target", "arguments"), CLASSES, ids=[name for name, _, _ in CLASSES])
def test_steps_equal_those_of_the_class_for_each_replica(
    name: str, target: type[torch.optim.Optimizer], arguments: dict[str, Any]
) -> None:
    """The rates change, one tensor has no decay, and one tensor gets no gradient in the first step."""
    generator = generator_for(0, "steps")
    start = {"weight": torch.randn(2, 3, 4, generator=generator), "bias": torch.randn(2, 3, generator=generator)}
    ours = {key: tensor.clone() for key, tensor in start.items()}
    optimizer = row_optimizers({f"torch.optim:{name}": arguments}, ours, ["bias"], [0.01, 0.02])
    rows = [{key: tensor[row].clone() for key, tensor in start.items()} for row in range(2)]
    decay: dict[str, Any] = {"weight_decay": 0.0} if name != "Rprop" else {}
    theirs = [
        target([{"params": [row["weight"]]}, {"params": [row["bias"]], **decay}], **arguments | {"lr": rate})  # type: ignore[call-arg]
        for row, rate in zip(rows, [0.01, 0.02], strict=True)
    ]
    for factor in (0.5, 1.0, 0.25):
        gradients = {key: torch.randn(tensor.shape, generator=generator) for key, tensor in start.items()}
        if factor == 0.5:
            del gradients["bias"]
        optimizer.step(gradients, factor)
        for number, (row, own) in enumerate(zip(rows, theirs, strict=True)):
            for key, tensor in row.items():
                tensor.grad = gradients[key][number] if key in gradients else None
            for group in own.param_groups:
                group["lr"] = [0.01, 0.02][number] * factor
            own.step()
    for key, tensor in ours.items():
        assert not torch.equal(tensor, start[key])
        assert torch.equal(tensor, torch.stack([row[key] for row in rows]))


def trained(seeds: list[int], **recipe: Any) -> list[Replica]:
    generator = generator_for(7, "own optimizer")
    labels = torch.randint(3, (40,), generator=generator)
    split = Split(torch.rand(40, 1, 4, 4, generator=generator), labels)
    network = build(Network(mlp=[6]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    settings = Recipe.model_validate({"epochs": 2, "batch": 16, **recipe})
    return fit(network, [Term(loss="hard_labels")], settings, split, split, seeds=seeds)


def test_replicas_that_are_trained_together_equal_those_trained_alone() -> None:
    """`Normed` divides by the norm of a tensor, which must not contain the weights of other replicas."""
    optimizer = {f"{OWN}Normed": {"lr": 0.05}}
    together = trained([0, 1], optimizer=optimizer, schedule={"cosine": {}})
    for replica in together:
        (alone,) = trained([replica.seed], optimizer=optimizer, schedule={"cosine": {}})
        for name, tensor in replica.state.items():
            torch.testing.assert_close(tensor, alone.state[name])


def test_torchs_adam_trains_like_ours() -> None:
    ours, theirs = (
        trained([0], optimizer={"adam": {"lr": 0.01}}),
        trained([0], optimizer={"torch.optim:Adam": {"lr": 0.01}}),
    )
    for name, tensor in ours[0].state.items():
        torch.testing.assert_close(theirs[0].state[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        {f"torch.optim:{name}": arguments} for name, _, arguments in CLASSES
    ] + [{f"{OWN}Normed": {"lr": 0.1, "power": 2}}, {"adam": {"lr": 0.1}}],
)  # fmt: skip
def test_classes_that_resume_are_accepted(optimizer: dict[str, Any]) -> None:
    check("student.optimizer", optimizer)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("torch.optim:LBFGS", {}, "torch.optim:LBFGS raised TypeError: LBFGS.step() missing 1 required"),
        ("torch.optim:RMSprop", {"alfa": 0.9}, "torch.optim:RMSprop has no argument 'alfa'. Did you mean 'alpha'?"),
        ("torch.optim:RMSprop", {"alpha": "0.9"}, "RMSprop: alpha: expected float, got '0.9'"),
        ("torch.optim:RMSprop", {"centered": 1}, "centered: expected bool, got 1"),
        ("torch.optim:RMSprop", {"momentum": -1.0}, "raised ValueError: Invalid momentum value: -1.0"),
        ("torch.optim:NAdam", {"betas": [0.9]}, "betas: expected tuple[float, float], got [0.9]"),
        (f"{OWN}Normed", {"power": 0.5}, "power: expected int, got 0.5"),
        (f"{OWN}Forgetful", {}, "gives other weights after its state was restored. Allowed: a class whose"),
        (f"{OWN}Idle", {}, "does not change the weights in place"),
        (f"{OWN}Unstorable", {}, "its state can't be stored: Object of type object is not JSON serializable"),
        (f"{OWN}Rateless", {}, "has no argument 'lr'. None exist" ),
    ],
)  # fmt: skip
def test_others_are_refused_before_training(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check("student.optimizer", {name: {"lr": 0.1, **arguments}})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim:RMSprob", "student.optimizer: torch.optim has no 'RMSprob'. Did you mean 'RMSprop'?"),
        ("torch.nn:Linear", "student.optimizer: the class torch.nn:Linear is not a torch.optim.Optimizer"),
        ("absent_module:Lion", "student.optimizer: absent_module can't be imported: ModuleNotFoundError"),
        ("os:system", "student.optimizer: os is a module of Python itself"),
    ],
)
def test_only_optimizers_are_imported(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check("student.optimizer", {name: {"lr": 0.1}})
    assert message in str(caught.value)
