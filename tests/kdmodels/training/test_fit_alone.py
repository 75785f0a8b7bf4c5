"""Networks of other libraries: trained alone, repeatable although they draw from torch's own generator."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import StochasticDepth

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import Knowledge
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import Distiller, Replica, fit
from kdmodels.training.batches import Batches
from kdmodels.training.stack import Stack

LABELS = [Term(loss="hard_labels")]


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    labels = torch.randint(3, (examples,), generator=generator)
    return Split(torch.rand(examples, 1, 4, 4, generator=generator) + labels.view(-1, 1, 1, 1), labels)


TRAIN, VALIDATION = split(40, "train"), split(20, "validation")


class Functional(nn.Module):
    """A user's class that drops in its forward pass, which no list of its layers shows."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(16, 6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.dropout(self.hidden(images.flatten(1)).relu(), 0.5, self.training))


def with_module(module: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), module, nn.ReLU(), nn.Linear(6, 3))


DRAWING = [Functional(), with_module(nn.Dropout(0.5)), with_module(StochasticDepth(0.5, "row"))]


def trained(network: nn.Module, seeds: list[int], **recipe: Any) -> list[Replica]:
    settings = Recipe.model_validate({"epochs": 3, "batch": 16, **recipe})
    return fit(network, LABELS, settings, TRAIN, VALIDATION, seeds=seeds)


def bits(replicas: list[Replica]) -> list[Any]:
    return [(r.history, {name: tensor.tolist() for name, tensor in r.state.items()}) for r in replicas]


@pytest.mark.parametrize("network", DRAWING, ids=["functional", "dropout", "stochastic depth"])
def test_draws_are_a_function_of_the_seed_and_move_nothing_global(network: nn.Module) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = trained(network, [0, 1])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert bits(trained(network, [0, 1])) == bits(first)
    assert bits(trained(network, [1])) == bits(first[1:])
    with ThreadPoolExecutor(2) as pool:
        for again in pool.map(lambda _: trained(network, [0, 1]), range(2)):
            assert bits(again) == bits(first)


def test_a_network_with_dropout_drops_different_units_in_every_step() -> None:
    """With a learning rate of almost 0 the losses of two epochs differ by what is dropped alone."""
    (replica,) = trained(with_module(nn.Dropout(0.5)), [0], batch=40, optimizer={"sgd": {"lr": 1e-12}})
    losses = [figures["train/loss"] for figures in replica.history]
    assert len(set(losses)) == 3
    assert replica.history[0]["val/loss"] == pytest.approx(replica.history[2]["val/loss"], rel=1e-6)


def test_a_network_that_draws_nothing_is_detected() -> None:
    def distiller(network: nn.Module) -> Distiller:
        return Distiller(
            network,
            LABELS,
            Recipe(epochs=1, batch=16),
            input_shape=(1, 4, 4),
            teacher_shapes={},
            labels=torch.arange(40) % 3,
        )

    own = build(Network(mlp=[6], dropout=0.5), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    assert not distiller(own).draws
    assert not distiller(with_module(nn.Dropout(0.0))).draws
    assert all(distiller(network).draws for network in DRAWING)


def test_balanced_sampling_and_a_loss_that_remembers_examples_exclude_each_other() -> None:
    known = Knowledge(torch.zeros(40, 3), {"last": torch.zeros(40, 6)})
    term = Term.model_validate("contrastive_representation")
    with pytest.raises(UserError, match="balance: sampling: contrastive_representation"):
        fit(
            Functional(),
            [term],
            Recipe(epochs=1, balance="sampling"),
            TRAIN,
            TRAIN,
            seeds=[0],
            knowledge=(known, known),
        )


def test_running_out_of_memory_names_the_settings() -> None:
    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 2:  # not in the trial
                torch.empty(2**58)
            return self.head(images.flatten(1))

    with pytest.raises(UserError, match=r"^out of memory; lower one of: batch \(16\), seeds \(2\)$"):
        trained(Huge(), [0, 1])


def test_no_tensor_of_a_step_stays_behind_on_the_cpu() -> None:
    """Fake tensors of a GPU: no value is computed, and two devices in one operation are an error."""
    cuda = torch.device("cuda")
    known = Knowledge(torch.zeros(40, 3).half(), {"last": torch.zeros(40, 5).half()})
    terms = [Term.model_validate(name) for name in ("decoupled", "hint", "contrastive_representation", "adversarial")]
    terms = [term.model_copy(update={"at": "last"}) if term.at else term for term in terms]
    student = build(Network(mlp=[6], dropout=0.5), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    distiller = Distiller(
        student,
        terms,
        Recipe(epochs=1, batch=16),
        input_shape=(1, 4, 4),
        teacher_shapes={"last": (5,)},
        labels=torch.arange(40) % 3,
    )
    train, validation = (Batches(split, [known], device=cuda) for split in (TRAIN, VALIDATION))
    stack = Stack(distiller, Recipe(epochs=1), (train, validation), [0, 1], torch.device("cpu"))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        stack.device = cuda
        stack.kept = {name: mode.from_tensor(tensor.detach()).to(cuda) for name, tensor in stack.kept.items()}
        stack.buffers = {name: mode.from_tensor(tensor).to(cuda) for name, tensor in stack.buffers.items()}
        stack.kept_buffers = stack.buffers
        drawn = {
            name: torch.stack([layer.draw(torch.arange(16), generator_for(0, "any"))] * 2).to(cuda)
            for name, layer in stack.drawn.items()
        }
        distiller.train()
        batch = stack.train_batches.batch(torch.arange(16).expand(2, -1))
        _, values = stack.values(stack.kept, {**stack.buffers, **drawn}, batch)
        assert {value.device.type for value in values.values()} == {"cuda"}
        figures, right = stack.validate()
        assert {value.device.type for value in figures.values()} == {"cuda"}
        assert right.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_trains_as_the_cpu_does(precision: str) -> None:
    network = build(Network(mlp=[6], dropout=0.2), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    recipe = Recipe(epochs=3, batch=16, clip=1.0, ema=0.9, precision=precision)
    one, other = (
        fit(network, LABELS, recipe, TRAIN, VALIDATION, seeds=[0, 1], device=torch.device(name))
        for name in ("cpu", "cuda")
    )
    for first_replica, second_replica in zip(one, other, strict=True):
        for name, tensor in first_replica.state.items():
            torch.testing.assert_close(second_replica.state[name], tensor, rtol=2e-2, atol=2e-3)
