"""The table of losses and presets is whole, and a term's shorthands mean what they say."""

import pytest

from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.presets import CONTROL, PRESETS, preset_terms
from kdmodels.experiment.terms import Calibrated, Term


def weights(preset: str) -> dict[str, float]:
    return {term.loss: term.factor for term in preset_terms(preset, published=True)}


def test_the_presets_have_the_published_weights() -> None:
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
    assert weights("ickd") == {"hard_labels": 1, "channel_correlation": 2.5}
    assert weights("ab") == {"hard_labels": 1, "activation_boundaries": 1}
    assert weights("ofd") == {"hard_labels": 1, "overhaul": 0.001}
    assert weights("cc") == {"hard_labels": 1, "correlation_congruence": 0.02}
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
def test_weights_of_terms_with_a_teacher_are_calibrated_by_default(name: str) -> None:
    terms = preset_terms(name)
    assert [term.loss for term in terms] == [term.loss for term in preset_terms(name, published=True)]
    if name == "adversarial":  # an untrained discriminator has a gradient that is no guide
        assert terms == preset_terms(name, published=True)
        return
    for term in terms:
        assert term.weight == (1.0 if LOSSES[term.loss].needs == "labels" else Calibrated(auto=1.0))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_in_normal_form_and_has_a_source(name: str) -> None:
    assert PRESETS[name].papers
    for term in PRESETS[name].terms:
        assert Term.model_validate(term.model_dump(mode="json")) == term
