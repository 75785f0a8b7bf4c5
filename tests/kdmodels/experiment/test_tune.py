"""The field `tune`: the numbers of each variant that a search changes, their ranges, and mistakes in the ranges."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.experiment import Experiment, Recipe
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.loss import Hyperparameter
from kdmodels.experiment.presets import PRESETS
from kdmodels.experiment.terms import Calibrated
from kdmodels.experiment.tune import Axis, axes, tuned_terms

RECIPE = Recipe.model_validate({"epochs": 4, "optimizer": {"sgd": {"lr": 0.5}}})
EXPERIMENT: dict[str, Any] = {
    "name": "tuned",
    "data": "digits",
    "teacher": {"network": {"mlp": [8]}, "epochs": 1},
    "student": {"network": {"mlp": [4]}, "epochs": 6, "schedule": {"cosine": {"warmup": 3}}},
    "variants": ["kd", "hint"],
}


def names(preset: str) -> list[str]:
    return [axis.name for axis in axes(PRESETS[preset].terms, RECIPE, {})]


@pytest.mark.parametrize(("preset", "expected"), [
    ("hard-labels", ["lr"]),
    ("label-smoothing", ["lr", "label_smoothing.epsilon"]),
    ("kd", ["lr", "soft_targets.weight", "soft_targets.temperature"]),
    ("dkd", ["lr", "decoupled.weight", "decoupled.beta", "decoupled.temperature"]),
    ("rkd", ["lr", "relational_distance.weight", "relational_angle.weight"]),
    ("logit-regression", ["lr"]),  # the weight of an only term would act like the learning rate
    ("crd", ["lr", "contrastive_representation.weight"]),  # its temperature is part of a module
])  # fmt: skip
def test_each_variant_has_its_own_axes(preset: str, expected: list[str]) -> None:
    assert names(preset) == expected


def test_default_ranges_are_factors_of_the_learning_rate_and_of_weights() -> None:
    lr, weight, temperature = axes(PRESETS["hinton"].terms, RECIPE, {})
    assert lr == Axis("lr", 0.05, 5.0, 0.5)
    assert weight == Axis("soft_targets.weight", 0.1, 10.0, 1.0)
    assert temperature == Axis("soft_targets.temperature", 1, 16, 10.0)


def test_a_name_with_its_loss_comes_before_a_name_without_loss() -> None:
    space = {"temperature": [1.0, 8.0], "soft_targets.temperature": [2.0, 3.0], "lr": [1e-4, 1e-1]}
    lr, _, temperature = axes(PRESETS["kd"].terms, RECIPE, space)
    assert (temperature.low, temperature.high) == (2.0, 3.0)
    assert (lr.low, lr.high) == (1e-4, 1e-1)
    *_, other = axes(PRESETS["dkd"].terms, RECIPE, space)
    assert (other.low, other.high) == (1.0, 8.0)


def test_the_weight_of_a_trial_is_a_factor_and_other_values_are_absolute() -> None:
    values = {"lr": 1, "soft_targets.weight": 2, "soft_targets.temperature": 3}
    labels, soft = tuned_terms(PRESETS["kd"].published, values)
    assert labels == PRESETS["kd"].published[0]
    assert soft.weight == pytest.approx(1.8)
    assert soft.hyperparameters == {"temperature": 3}
    _, calibrated = tuned_terms(PRESETS["kd"].terms, values)
    assert calibrated.weight == Calibrated(auto=2)


def test_the_ranges_of_the_catalogue_are_allowed_and_hold_the_default() -> None:
    for loss in LOSSES.values():
        for row in loss.hyperparameters.values():
            if isinstance(row, Hyperparameter) and row.tune:
                low, high = row.tune
                assert row.default is not None
                assert 0 < low < row.default < high
                assert row.problem(low) is row.problem(high) is None


@pytest.mark.parametrize(("tune", "message"), [
    ({"space": {"lrr": [1, 2]}}, "no variant has a hyperparameter 'lrr' to tune. Did you mean 'lr'? Allowed: lr, w"),
    ({"space": {"beta": [1, 2]}}, "no variant has a hyperparameter 'beta' to tune. Allowed: lr, weight, temper"),
    ({"space": {"temperature": [1, 1e9]}}, "1000000000.0 is out of range. Allowed: above 0 and below 1e+06"),
    ({"space": {"lr": [2, 1]}}, "expected two positive numbers, the smaller one first, got [2, 1]"),
    ({"space": {"lr": [0, 1]}}, "expected two positive numbers, the smaller one first, got [0, 1]"),
    ({"space": {"lr": 1}}, "expected two positive numbers, the smaller one first, got 1"),
    ({"epochs": 3}, "expected more epochs than the 3 warm-up epochs of the schedule, got 3"),
    ({"epochs": 7}, "expected at most 6, the epochs of the student, got 7"),
])  # fmt: skip
def test_a_mistake_in_the_rule_is_named(tune: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Experiment.model_validate(EXPERIMENT | {"tune": tune})
    (detail,) = error.value.errors()
    assert detail["ctx"]["message"].startswith(message)


def test_fewer_variants_keep_the_ranges_that_apply_to_them() -> None:
    experiment = Experiment.model_validate(EXPERIMENT | {"tune": {"space": {"lr": [1, 2], "hint.weight": [1, 2]}}})
    only = experiment.only(["kd"])
    assert only.tune is not None
    assert only.tune.space == {"lr": [1.0, 2.0]}
    assert only.tune.trials == 12


def test_a_variant_names_the_grid_of_which_it_is_a_point() -> None:
    own = {"name": "mine", "terms": [{"hard_labels": 1}, {"soft_targets": {"weight": [1, 2]}}]}
    experiment = Experiment.model_validate(EXPERIMENT | {"variants": ["kd", {"dkd": {"temperature": [2, 4]}}, own]})
    assert [variant.grid for variant in experiment.variants] == [None, None, "dkd", "dkd", "mine", "mine"]
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment
