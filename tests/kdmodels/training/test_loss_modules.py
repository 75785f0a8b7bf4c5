"""What an objective owns beside the student is built as its terms say."""

import pytest
import torch
from torch import nn

from kdmodels.experiment import Network, Recipe
from kdmodels.experiment.terms import Term
from kdmodels.networks import build
from kdmodels.training.distiller import Distiller
from kdmodels.training.loss_modules import build_loss


@pytest.mark.parametrize("width", [None, 5])
def test_widths_reach_the_modules(width: int | None) -> None:
    def built(loss: str) -> nn.Module:
        term = Term.model_validate({loss: {} if width is None else {"width": width}})
        own = build_loss(term, [((4, 8, 8), (6, 8, 8))], classes=3, labels=torch.arange(9) % 3).modules
        assert own is not None
        return own

    adversary, contrast, fusion = map(built, ("adversarial", "contrastive_representation", "review"))
    assert adversary.state_dict()["discriminator.0.weight"].shape == (width or 64, 3)
    assert contrast.state_dict()["0.student_bank"].shape == (9, width or 128)
    assert fusion.state_dict()["stages.0.reduce.0.weight"].shape == (width or 4, 4, 1, 1)  # the deepest map has 4


@pytest.mark.parametrize("loss", ["adversarial", "contrastive_representation", "review"])
def test_an_objective_with_a_given_width_has_a_value(loss: str) -> None:
    term = Term.model_validate({loss: {"width": 5}})
    student = build(Network(conv=[4, 8, 16]), input_shape=(1, 8, 8), classes=3, mean=[0.5], std=[0.5])
    shapes = {"first": (4, 8, 8), "middle": (8, 4, 4), "deepest": (16, 2, 2), "last": (16,)}
    # It tries every term on two images.
    distiller = Distiller(
        student,
        [term],
        Recipe(epochs=1, batch=4),
        input_shape=(1, 8, 8),
        teacher_shapes=shapes,
        labels=torch.arange(9) % 3,
    )
    assert loss in distiller.objective.own
