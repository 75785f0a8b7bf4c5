"""Replicas with different settings in one training: each equals a separate training with its setting."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.loss import Hyperparameter
from kdmodels.knowledge import Knowledge
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import Replica, Setting, fit
from kdmodels.training.setting import setting_of

GENERATOR = generator_for(0, "setting")
TRAIN, VALIDATION = (
    Split(torch.rand(examples, 1, 8, 8, generator=GENERATOR), torch.arange(examples) % 3) for examples in (30, 12)
)
KNOWLEDGE = tuple(Knowledge(torch.randn(examples, 3, generator=GENERATOR), {}) for examples in (30, 12))
ENSEMBLE = tuple(Knowledge(torch.randn(examples, 2, 3, generator=GENERATOR), {}) for examples in (30, 12))


def student(kind: str) -> torch.nn.Module:
    network = Network(mlp=[6]) if kind == "mlp" else Network(conv=[4])
    return build(network, input_shape=(1, 8, 8), classes=3, mean=[0.5], std=[0.25])


def recipe(optimizer: str = "adam", lr: float = 0.01, **fields: Any) -> Recipe:
    return Recipe.model_validate({"epochs": 3, "batch": 8, "optimizer": {optimizer: {"lr": lr}}, **fields})


def together(settings: list[Setting], kind: str = "mlp", knowledge: Any = KNOWLEDGE, **fields: Any) -> list[Replica]:
    return fit(
        student(kind),
        settings[0].terms,
        recipe(**fields),
        TRAIN,
        VALIDATION,
        seeds=[5] * len(settings),
        knowledge=knowledge,
        settings=settings,
    )


def alone(setting: Setting, kind: str = "mlp", knowledge: Any = KNOWLEDGE, **fields: Any) -> Replica:
    (replica,) = fit(
        student(kind),
        setting.terms,
        recipe(lr=setting.lr, **fields),
        TRAIN,
        VALIDATION,
        seeds=[5],
        knowledge=knowledge,
    )
    return replica


def assert_equal(one: Replica, other: Replica) -> None:
    assert one.history[-1] == pytest.approx(other.history[-1], rel=1e-3)
    for name, tensor in other.state.items():
        torch.testing.assert_close(one.state[name], tensor, rtol=1e-4, atol=1e-5)


def terms(weight: float = 1.0, temperature: float = 4.0) -> tuple[Term, ...]:
    soft = {"soft_targets": {"weight": weight, "temperature": temperature}}
    return Term.model_validate("hard_labels"), Term.model_validate(soft)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_each_setting_trains_as_alone(kind: str, optimizer: str) -> None:
    settings = [Setting(0.01, terms()), Setting(0.03, terms(weight=2.5)), Setting(0.002, terms(temperature=1.5))]
    for replica, setting in zip(together(settings, kind, optimizer=optimizer), settings, strict=True):
        assert_equal(replica, alone(setting, kind, optimizer=optimizer))


def test_settings_of_a_recipe_with_momentum_clipping_and_averages_train_as_alone() -> None:
    fields = {"clip": 0.5, "ema": 0.9, "schedule": {"cosine": {}}, "decay_norms": True}
    settings = [Setting(0.05, terms(0.5, 2)), Setting(0.2, terms(3, 8))]
    for replica, setting in zip(together(settings, **fields), settings, strict=True):
        assert_equal(replica, alone(setting, **fields))


TUNED = [(name, key) for name, loss in LOSSES.items() for key, row in loss.hyperparameters.items()
         if isinstance(row, Hyperparameter) and row.tune]  # fmt: skip


@pytest.mark.parametrize(("loss", "key"), TUNED)
def test_every_tuned_hyperparameter_can_differ_between_replicas(loss: str, key: str) -> None:
    row = LOSSES[loss].hyperparameters[key]
    assert isinstance(row, Hyperparameter)
    assert row.tune
    settings = [Setting(0.01, (Term.model_validate({loss: {key: value}}),)) for value in row.tune]
    replicas = together(settings)
    for replica, setting in zip(replicas, settings, strict=True):
        assert_equal(replica, alone(setting))
    assert replicas[0].history[0] != replicas[1].history[0]


@pytest.mark.parametrize("loss", ["soft_targets", "standardised_soft_targets", "logit_regression"])
def test_the_logits_of_an_ensemble_are_combined_at_each_replicas_temperature(loss: str) -> None:
    numbers: list[dict[str, float]] = [{"weight": 0.5}, {"weight": 1.5}]
    if "temperature" in LOSSES[loss].hyperparameters:
        numbers = [{"temperature": 2.0}, {"temperature": 9.0}]
    settings = [Setting(0.01, (Term.model_validate({loss: own}),)) for own in numbers]
    for replica, setting in zip(together(settings, knowledge=ENSEMBLE), settings, strict=True):
        assert_equal(replica, alone(setting, knowledge=ENSEMBLE))


def test_the_weights_of_each_setting_are_calibrated_with_its_own_hyperparameters() -> None:
    calibrated = [{"weight": {"auto": 0.5}, "temperature": 2.0}, {"weight": "auto", "temperature": 9.0}]
    settings = [Setting(0.01, (terms()[0], Term.model_validate({"soft_targets": own}))) for own in calibrated]
    for replica, setting in zip(together(settings), settings, strict=True):
        assert_equal(replica, alone(setting))


def test_a_hyperparameter_that_all_settings_share_need_not_be_that_of_the_terms() -> None:
    settings = [Setting(0.01, terms(temperature=9.0))] * 2
    replicas = fit(
        student("mlp"), terms(), recipe(), TRAIN, VALIDATION, seeds=[5, 5], knowledge=KNOWLEDGE, settings=settings
    )
    assert_equal(replicas[1], alone(settings[0]))


def test_training_on_some_examples_equals_training_on_a_split_of_these_examples() -> None:
    chosen = torch.tensor([0, 1, 2, 4, 5, 9, 10, 12, 13, 17, 20, 24, 25, 26])
    part = Split(TRAIN.pixels[chosen], TRAIN.labels[chosen])
    of_part = replace(KNOWLEDGE[0], logits=KNOWLEDGE[0].logits[chosen])
    common: dict[str, Any] = {"seeds": [0, 1]}
    (one, other), expected = (
        fit(student("mlp"), terms(), recipe(), train, VALIDATION, knowledge=(known, KNOWLEDGE[1]), **common, **chosen_)
        for train, known, chosen_ in ((TRAIN, KNOWLEDGE[0], {"examples": chosen}), (part, of_part, {}))
    )
    assert_equal(one, expected[0])
    assert_equal(other, expected[1])


def test_the_setting_of_a_recipe_has_its_learning_rate() -> None:
    assert setting_of(recipe("sgd", 0.25), terms()) == Setting(0.25, terms())
