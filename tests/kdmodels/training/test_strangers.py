"""Networks of the user's that do what kdflow's own do not."""

import pytest
import torch
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Recipe, Term
from kdmodels.knowledge import Knowledge
from kdmodels.randomness import stream
from kdmodels.training import Distiller, fit

HINT = [Term.model_validate({"hint": {"at": {"student": "body", "teacher": "x"}}})]
LABELS = [Term(loss="hard_labels")]


def distiller(network: nn.Module, terms: list[Term]) -> Distiller:
    shapes = {"x": (4,)}
    return Distiller(network, terms, input_shape=(1, 2, 2), teacher_shapes=shapes, labels=torch.arange(9) % 3, batch=4)


class Backwards(nn.Module):
    """Its last linear layer is not registered last."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)
        self.body = nn.Linear(4, 5)
        self.mid = nn.Linear(5, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.mid(self.body(images.flatten(1)).relu()).relu())


class PerToken(nn.Module):
    """Its logits are the mean of what its last linear layer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 10)
        self.fc = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.body(images.flatten(1)).view(-1, 2, 5)).mean(dim=1)


def test_a_linear_layer_that_does_not_give_the_logits_is_no_probe() -> None:
    """Its hidden units were taken for classes."""
    told = distiller(Backwards(), HINT)
    assert not told.probed
    assert told.unreached == ["fc.weight", "fc.bias", "mid.weight", "mid.bias"]
    assert not distiller(PerToken(), HINT).probed


class Convolutional(nn.Module):
    """No linear layer, and a part that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(1, 3, 2)
        self.unused = nn.Conv2d(1, 3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.used(images).flatten(1)


def test_without_a_linear_layer_what_is_unused_is_told() -> None:
    assert distiller(Convolutional(), LABELS).unreached == ["unused.weight", "unused.bias"]


class Remembering(nn.Module):
    """Moves a buffer that no state dict holds."""

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
    """Replicas shared it, so that a seed's result depended on the others."""
    with pytest.raises(UserError, match="buffer moves changes in training and is not stored; allowed: persistent=True"):
        distiller(Remembering(), LABELS)


class Drawing(nn.Sequential):
    """Has a method of its own that is called as one of kdflow's layers' is."""

    def draw(self) -> str:
        return "a picture"


def test_a_network_may_draw_itself() -> None:
    split = Split(torch.rand(8, 1, 2, 2, generator=stream(0, "images")), torch.arange(8) % 3)
    network = Drawing(nn.Flatten(), nn.Linear(4, 3))
    (replica,) = fit(network, LABELS, Recipe(epochs=1, batch=4), split, split, seeds=[0])
    assert len(replica.history) == 1


def test_batch_norm_without_a_momentum_is_trained_alone() -> None:
    split = Split(torch.rand(8, 1, 2, 2, generator=stream(0, "images")), torch.arange(8) % 3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None))
    assert len(fit(network, LABELS, Recipe(epochs=1, batch=4), split, split, seeds=[0, 1])) == 2


def test_what_an_objective_owns_moves_no_global_generator() -> None:
    """It was drawn beside another student's dropout, whose masks then depended on the moment."""
    features = {"x": torch.rand(8, 4, generator=stream(0, "features"))}
    split = Split(torch.rand(8, 1, 2, 2, generator=stream(0, "images")), torch.arange(8) % 3)
    known, network = Knowledge(torch.zeros(8, 3), features), PerToken()
    before = torch.get_rng_state()
    fit(network, [*LABELS, *HINT], Recipe(epochs=1, batch=4), split, split, seeds=[0], knowledge=(known, known))
    assert torch.equal(torch.get_rng_state(), before)
