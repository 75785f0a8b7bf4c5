"""Builders of losses: every row of the catalogue has one, and all have one call shape."""

from importlib import import_module

import pytest
import torch
from torch import Tensor

from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.terms import Term
from kdmodels.losses.term_loss import LossInputs, LossSetting, on_features, on_labels, on_modules, total
from kdmodels.training.loss_modules import build_loss

FILES = sorted({row.file for row in LOSSES.values()})
INPUTS = LossInputs(
    torch.zeros(3, 2),
    torch.ones(3, 2),
    torch.tensor([0, 1, 1]),
    torch.arange(3),
    [torch.ones(3, 4)],
    [torch.ones(3, 4)],
)


def setting(**hyperparameters: float | str) -> LossSetting:
    return LossSetting(hyperparameters, [(4,), (2, 3, 3)], [(4,), (5, 3, 3)], 2, INPUTS.labels)


@pytest.mark.parametrize("file", FILES)
def test_a_file_builds_the_losses_that_the_catalogue_says_it_holds(file: str) -> None:
    builders = import_module(f"kdmodels.losses.{file}").BUILDERS
    assert set(builders) == {name for name, row in LOSSES.items() if row.file == file}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_modules_and_an_opponent_if_the_catalogue_says_so(name: str) -> None:
    pairs = [((4, 8, 8), (4, 8, 8)), ((8, 4, 4), (8, 4, 4))] if LOSSES[name].needs == "features" else []
    loss = build_loss(Term(loss=name), pairs, classes=3, labels=torch.arange(9) % 3)
    if LOSSES[name].modules is not None:
        assert loss.modules is not None
    assert (loss.opponent is not None) == (LOSSES[name].opponent is not None)


def test_an_adapter_passes_the_hyperparameters() -> None:
    def scaled(logits: Tensor, labels: Tensor, *, factor: float) -> Tensor:
        return factor * labels + logits[:, 0]

    assert on_labels(scaled)(setting(factor=2.0)).value(INPUTS, None).tolist() == [0.0, 2.0, 2.0]


def test_features_are_summed_over_the_places() -> None:
    two = INPUTS._replace(student_features=[torch.ones(3, 4)] * 2, teacher_features=[torch.zeros(3, 4)] * 2)
    loss = on_features(lambda student, teacher: (student - teacher).sum(dim=1))(setting())
    assert loss.value(two, None).tolist() == [8.0] * 3


def test_modules_are_called_place_by_place() -> None:
    loss = on_modules([torch.nn.Bilinear(4, 4, 1, bias=False)])
    (module,) = loss.modules or []
    module.weight.data.fill_(1)
    assert loss.value(INPUTS, loss.modules).flatten().tolist() == [16.0] * 3


def test_a_setting_compares_channels_and_reads_numbers() -> None:
    known = setting(width=8, metric="cosine")
    assert known.number("width") == 8.0
    assert not known.same_channels
    assert list(known.pairs) == [((4,), (4,)), ((2, 3, 3), (5, 3, 3))]


def test_a_total_is_the_sum() -> None:
    assert total([torch.ones(2), torch.arange(2.0)]).tolist() == [1.0, 2.0]
