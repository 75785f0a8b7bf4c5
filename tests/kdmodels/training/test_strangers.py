"""Users' networks that behave unlike kdflow's networks."""

import pytest
import torch
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Recipe, Term
from kdmodels.knowledge import Knowledge
from kdmodels.randomness import generator_for
from kdmodels.training import Distiller, fit

HINT = [Term.model_validate({"hint": {"at": {"student": "body", "teacher": "x"}}})]
LABELS = [Term(loss="hard_labels")]


def distiller(network: nn.Module, terms: list[Term]) -> Distiller:
    shapes = {"x": (4,)}
    return Distiller(
        network,
        terms,
        Recipe(epochs=1, batch=4),
        input_shape=(1, 2, 2),
        teacher_shapes=shapes,
        labels=torch.arange(9) % 3,
    )


class Backwards(nn.Module):
    """Network whose last linear layer is not registered last."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)
        self.body = nn.Linear(4, 5)
        self.mid = nn.Linear(5, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.mid(self.body(images.flatten(1)).relu()).relu())


class PerToken(nn.Module):
    """Network whose logits are the mean of its last linear layer's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 10)
        self.fc = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.body(images.flatten(1)).view(-1, 2, 5)).mean(dim=1)


def test_a_linear_layer_whose_output_is_not_the_logits_is_no_probe() -> None:
    """Hidden units were once mistaken for classes."""
    trainable = distiller(Backwards(), HINT)
    assert not trainable.probed
    assert trainable.unreached == ["fc.weight", "fc.bias", "mid.weight", "mid.bias"]
    assert not distiller(PerToken(), HINT).probed


class Convolutional(nn.Module):
    """Network without a linear layer and with an unused part."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(1, 3, 2)
        self.unused = nn.Conv2d(1, 3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.used(images).flatten(1)


def test_without_a_linear_layer_unused_parameters_are_named() -> None:
    assert distiller(Convolutional(), LABELS).unreached == ["unused.weight", "unused.bias"]


class Remembering(nn.Module):
    """Network that changes a buffer that is not in its state dict."""

    moves: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.register_buffer("moves", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.moves += 1
        return self.fc(images.flatten(1)) * (1 + self.moves)


def test_state_that_is_not_stored_is_refused() -> None:
    """Replicas once shared such a buffer, so that a seed's result depended on the other seeds."""
    with pytest.raises(
        UserError, match=r"buffer moves changes in training and is not stored\. Allowed: persistent=True"
    ):
        distiller(Remembering(), LABELS)


class Drawing(nn.Sequential):
    """Network with a method that has the name of a method of kdflow's layers."""

    def draw(self) -> str:
        return "a picture"


def test_a_network_may_have_a_method_named_draw() -> None:
    split = Split(torch.rand(8, 1, 2, 2, generator=generator_for(0, "images")), torch.arange(8) % 3)
    network = Drawing(nn.Flatten(), nn.Linear(4, 3))
    (replica,) = fit(network, LABELS, Recipe(epochs=1, batch=4), split, split, seeds=[0])
    assert len(replica.history) == 1


def test_batch_norm_without_a_momentum_is_trained_alone() -> None:
    split = Split(torch.rand(8, 1, 2, 2, generator=generator_for(0, "images")), torch.arange(8) % 3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None))
    assert len(fit(network, LABELS, Recipe(epochs=1, batch=4), split, split, seeds=[0, 1])) == 2


def test_building_an_objective_leaves_the_global_generator_alone() -> None:
    """Weights were once drawn beside another student's dropout, whose masks then depended on the timing."""
    features = {"x": torch.rand(8, 4, generator=generator_for(0, "features"))}
    split = Split(torch.rand(8, 1, 2, 2, generator=generator_for(0, "images")), torch.arange(8) % 3)
    known, network = Knowledge(torch.zeros(8, 3), features), PerToken()
    before = torch.get_rng_state()
    fit(network, [*LABELS, *HINT], Recipe(epochs=1, batch=4), split, split, seeds=[0], knowledge=(known, known))
    assert torch.equal(torch.get_rng_state(), before)
