"""The table of losses and presets is whole, and a term's shorthands mean what they say."""

import pytest
from pydantic import ValidationError

from kdmodels.objectives import CONTROL, LOSSES, PRESETS, Hyperparameter, TapPair, Term


def weights(preset: str) -> dict[str, float]:
    return {term.loss: term.weight for term in PRESETS[preset].terms}


def test_the_losses_and_what_they_need() -> None:
    assert {name: loss.needs for name, loss in LOSSES.items()} == {
        "hard_labels": "labels",
        "label_smoothing": "labels",
        "soft_targets": "logits",
        "logit_regression": "logits",
        "hint": "features",
    }


def test_the_presets_have_the_weights_of_their_papers() -> None:
    assert weights(CONTROL) == {"hard_labels": 1}
    assert weights("label-smoothing") == {"label_smoothing": 1}
    assert weights("kd") == {"hard_labels": 0.1, "soft_targets": 0.9}
    assert weights("logit-regression") == {"logit_regression": 1}
    assert weights("hint") == {"hard_labels": 1, "hint": 100}
    assert weights("kd+hint") == {"hard_labels": 0.1, "soft_targets": 0.9, "hint": 100}
    assert PRESETS["kd"].terms[1].hyperparameters == {"temperature": 4}
    assert PRESETS["label-smoothing"].terms[0].hyperparameters == {"epsilon": 0.1}
    assert PRESETS["hint"].terms[1].at == "middle"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_in_normal_form_and_has_a_source(name: str) -> None:
    assert PRESETS[name].paper
    for term in PRESETS[name].terms:
        assert Term.model_validate(term.model_dump(mode="json")) == term


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("hard_labels", {"loss": "hard_labels", "weight": 1.0, "at": None, "hyperparameters": {}}),
        ({"hard_labels": 0.5}, {"loss": "hard_labels", "weight": 0.5, "at": None, "hyperparameters": {}}),
        (
            {"soft_targets": {"weight": 0.5, "temperature": 2}},
            {"loss": "soft_targets", "weight": 0.5, "at": None, "hyperparameters": {"temperature": 2.0}},
        ),
        ({"loss": "hint"}, {"loss": "hint", "weight": 1.0, "at": "middle", "hyperparameters": {}}),
        (
            {"hint": {"at": ["last", {"student": "a.b", "teacher": "c"}]}},
            {"loss": "hint", "weight": 1.0, "at": ["last", {"student": "a.b", "teacher": "c"}], "hyperparameters": {}},
        ),
    ],
)
def test_a_term_s_shorthands(written: object, normal: dict[str, object]) -> None:
    assert Term.model_validate(written).model_dump(mode="json") == normal


def test_a_pair_of_places_is_a_pair() -> None:
    term = Term.model_validate({"hint": {"at": {"student": "a", "teacher": "b"}}})
    assert term.at == TapPair(student="a", teacher="b")


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1", True, 10**400])
def test_a_weight_is_a_positive_number(weight: object) -> None:
    with pytest.raises(ValidationError):
        Term.model_validate({"hard_labels": weight})


@pytest.mark.parametrize(
    ("value", "allowed"), [(0, True), (0.99, True), (1, False), (-0.01, False), (True, False), (float("nan"), False)]
)
def test_an_interval_with_its_low_end_and_without_its_high_end(value: float, allowed: bool) -> None:
    interval = Hyperparameter(0.1, low=0, high=1, low_inclusive=True)
    assert (interval.problem(value) is None) is allowed


@pytest.mark.parametrize(("value", "allowed"), [(0, False), (1e-9, True), (10**400, False), (float("inf"), False)])
def test_an_open_interval_without_a_high_end(value: float, allowed: bool) -> None:
    assert (Hyperparameter(4.0, low=0).problem(value) is None) is allowed
