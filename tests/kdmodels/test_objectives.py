"""The table of losses and presets is whole, and a term's shorthands mean what they say."""

import pytest
from pydantic import ValidationError

from kdmodels.catalogue import Hyperparameter
from kdmodels.objectives import CONTROL, PRESETS
from kdmodels.terms import TapPair, Term


def weights(preset: str) -> dict[str, float]:
    return {term.loss: term.weight for term in PRESETS[preset].terms}


def test_the_presets_have_the_usual_weights() -> None:
    assert weights(CONTROL) == {"hard_labels": 1}
    assert weights("label-smoothing") == {"label_smoothing": 1}
    assert weights("kd") == {"hard_labels": 0.1, "soft_targets": 0.9}
    assert weights("logit-regression") == {"logit_regression": 1}
    assert weights("hint") == {"hard_labels": 1, "hint": 100}
    assert weights("kd-reverse") == {"hard_labels": 0.1, "reverse_soft_targets": 0.9}
    assert weights("kd-standardised") == {"hard_labels": 0.1, "standardised_soft_targets": 9}
    assert weights("hinton") == {"hard_labels": 1, "soft_targets": 1}
    assert weights("dkd") == {"hard_labels": 1, "decoupled": 1}
    assert weights("dist") == {"hard_labels": 1, "dist": 1}
    assert weights("attention") == {"hard_labels": 1, "attention_transfer": 1000}
    assert weights("similarity") == {"hard_labels": 1, "similarity_preserving": 3000}
    assert weights("rkd") == {"hard_labels": 1, "relational_distance": 25, "relational_angle": 50}
    assert weights("rkd-distance") == {"hard_labels": 1, "relational_distance": 25}
    assert weights("dm") == {"hard_labels": 0.5, "distance_metric": 0.5}
    assert weights("pkt") == {"hard_labels": 1, "probabilistic_transfer": 30000}
    assert weights("nst") == {"hard_labels": 1, "neuron_selectivity": 50}
    assert weights("fsp") == {"hard_labels": 1, "flow_of_solution": 50}
    assert weights("vid") == {"hard_labels": 1, "variational_information": 1}
    assert weights("crd") == {"hard_labels": 1, "contrastive_representation": 0.8}
    assert weights("review") == {"hard_labels": 1, "review": 5}
    assert weights("srd") == {"hard_labels": 1, "simple_recipe": 1}
    assert weights("kd+hint") == {"hard_labels": 0.1, "soft_targets": 0.9, "hint": 100}
    assert PRESETS["kd"].terms[1].hyperparameters == {"temperature": 4}
    assert PRESETS["label-smoothing"].terms[0].hyperparameters == {"epsilon": 0.1}
    assert PRESETS["hinton"].terms[1].hyperparameters == {"temperature": 10}
    assert PRESETS["kd-standardised"].terms[1].hyperparameters == {"temperature": 2}
    assert PRESETS["dkd"].terms[1].hyperparameters == {"alpha": 1, "beta": 8, "temperature": 4}
    assert PRESETS["dist"].terms[1].hyperparameters == {"beta": 2, "gamma": 2, "temperature": 4}
    assert PRESETS["crd"].terms[1].hyperparameters == {
        "width": 128, "temperature": 0.07, "momentum": 0.5, "negatives": 16384}  # fmt: skip
    assert {name for name, preset in PRESETS.items() if any(term.warmup for term in preset.terms)} == {"dkd", "review"}
    assert PRESETS["dkd"].terms[1].warmup == PRESETS["review"].terms[1].warmup == pytest.approx(20 / 240)
    assert PRESETS["hint"].terms[1].at == "middle"
    assert PRESETS["attention"].terms[1].at == ["first", "middle", "deepest"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_in_normal_form_and_has_a_source(name: str) -> None:
    assert PRESETS[name].papers
    for term in PRESETS[name].terms:
        assert Term.model_validate(term.model_dump(mode="json")) == term


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("hard_labels", {"loss": "hard_labels", "weight": 1.0}),
        ({"hard_labels": 0.5}, {"loss": "hard_labels", "weight": 0.5}),
        (
            {"soft_targets": {"weight": 0.5, "temperature": 2}},
            {"loss": "soft_targets", "weight": 0.5, "hyperparameters": {"temperature": 2.0}},
        ),
        ({"loss": "hint"}, {"loss": "hint", "weight": 1.0, "at": "middle"}),
        (
            {"dist": {"weight": 2, "warmup": 0.1, "cosine": True}},
            {
                "loss": "dist",
                "weight": 2.0,
                "warmup": 0.1,
                "cosine": True,
                "hyperparameters": {"beta": 2.0, "gamma": 2.0, "temperature": 4.0},
            },
        ),
        (
            {"hint": {"at": ["last", {"student": "a.b", "teacher": "c"}]}},
            {"loss": "hint", "weight": 1.0, "at": ["last", {"student": "a.b", "teacher": "c"}]},
        ),
    ],
)
def test_a_term_s_shorthands(written: object, normal: dict[str, object]) -> None:
    rest = {"warmup": 0.0, "cosine": False, "at": None, "hyperparameters": {}}
    assert Term.model_validate(written).model_dump(mode="json") == rest | normal


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
