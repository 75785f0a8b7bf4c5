"""The values of a tuned student, from the params and tags of its run."""

import pytest

from tasks.tuned_values import trained_with

PARAMS = {
    "optimizer.adam.lr": "0.01",
    "terms.0.loss": "hard_labels",
    "terms.0.weight": "0.1",
    "terms.1.loss": "soft_targets",
    "terms.1.weight": "0.9",
    "terms.1.hyperparameters.temperature": "4.0",
}
TAGS = {
    "kd.tuning": "0123",
    "kd.tuned.lr": "0.0132",
    "kd.tuned.soft_targets.weight": "4.142",
    "kd.tuned.soft_targets.temperature": "2.417",
}


def test_a_chosen_factor_multiplies_the_weight_of_the_file() -> None:
    values = trained_with(PARAMS, TAGS)
    assert values == pytest.approx(
        {
            "lr": 0.0132,
            "hard_labels.weight": 0.1,
            "soft_targets.temperature": 2.417,
            "soft_targets.weight": 3.7278,
        }
    )
    assert next(iter(values or {})) == "lr"


def test_a_calibrated_weight_is_used_as_it_was_recorded() -> None:
    params = {name: value for name, value in PARAMS.items() if name != "terms.1.weight"} | {"terms.1.weight.auto": "1"}
    waiting = trained_with(params, TAGS)
    assert waiting is not None
    assert "soft_targets.weight" not in waiting
    assert trained_with(params | {"calibrated.soft_targets": "7.5"}, TAGS) == waiting | {"soft_targets.weight": 7.5}


def test_a_student_without_a_search_has_no_tuned_values() -> None:
    assert trained_with(PARAMS, {"kd.kind": "student"}) is None
