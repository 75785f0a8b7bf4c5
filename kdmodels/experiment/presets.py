"""The table of presets. A preset is a ready-made variant. To add a preset, add one row."""

from collections.abc import Mapping
from dataclasses import dataclass

from kdmodels.errors import allowed
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.schema import mistake, show
from kdmodels.experiment.terms import Calibrated, Term


@dataclass(frozen=True)
class Preset:
    """A ready-made variant.

    Attributes:
        published: The terms with their published weights. `catalogue.py` names the source of each weight.
    """

    published: tuple[Term, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms with the default weights.

        By default, terms that use the teacher have a calibrated weight, and terms on labels have weight 1. Published
        weights were chosen for one pair of networks and one data set. For other networks and data, they are often wrong
        by a factor of 10 or more.

        Two kinds of presets keep their published weights: presets that use only labels, and presets with a
        discriminator. With a discriminator, a calibration would measure the gradient through the untrained
        discriminator. The size of this gradient does not show how large the later gradients are.
        """
        losses = [term.row for term in self.published]
        if all(loss.needs == "labels" for loss in losses) or any(loss.opponent for loss in losses):
            return self.published
        return tuple(
            term.model_copy(update={"weight": 1.0 if loss.needs == "labels" else Calibrated(auto=1.0)})
            for term, loss in zip(self.published, losses, strict=True)
        )

    @property
    def papers(self) -> str:
        """The papers of the losses that use the teacher. If no loss uses the teacher, the papers of all losses."""
        distilled = [term.row.paper for term in self.published if term.row.needs != "labels"]
        return "; ".join(dict.fromkeys(distilled or [term.row.paper for term in self.published]))


CONTROL = "hard-labels"
"""The name of the control of the experiment's student. The control trains this student on labels only."""

WARMUP = 20 / 240  # 20 of 240 epochs, as published for DKD and ReviewKD


def _preset(**terms: object) -> Preset:
    """Return a preset from terms of the form `loss=weight` or `loss={...}`, as in an experiment file."""
    return Preset(tuple(Term.model_validate({loss: value}) for loss, value in terms.items()))


PRESETS: Mapping[str, Preset] = {
    CONTROL: _preset(hard_labels=1),
    "label-smoothing": _preset(label_smoothing=1),
    "kd": _preset(hard_labels=0.1, soft_targets=0.9),
    "kd-reverse": _preset(hard_labels=0.1, reverse_soft_targets=0.9),
    "kd-standardised": _preset(hard_labels=0.1, standardised_soft_targets=9),
    "hinton": _preset(hard_labels=1, soft_targets={"weight": 1, "temperature": 10}),
    "logit-regression": _preset(logit_regression=1),
    "dkd": _preset(hard_labels=1, decoupled={"weight": 1, "warmup": WARMUP}),
    "dist": _preset(hard_labels=1, dist=1),
    "hint": _preset(hard_labels=1, hint=100),
    "cosine": _preset(hard_labels=1, cosine_features=1),
    "attention": _preset(hard_labels=1, attention_transfer=1000),
    "similarity": _preset(hard_labels=1, similarity_preserving=3000),
    "rkd": _preset(hard_labels=1, relational_distance=25, relational_angle=50),
    "rkd-distance": _preset(hard_labels=1, relational_distance=25),
    "dm": _preset(hard_labels=0.5, distance_metric=0.5),
    "pkt": _preset(hard_labels=1, probabilistic_transfer=30000),
    "nst": _preset(hard_labels=1, neuron_selectivity=50),
    "ickd": _preset(hard_labels=1, channel_correlation=2.5),
    "ab": _preset(hard_labels=1, activation_boundaries=1),
    "ofd": _preset(hard_labels=1, overhaul=0.001),
    "cc": _preset(hard_labels=1, correlation_congruence=0.02),
    "fsp": _preset(hard_labels=1, flow_of_solution=50),
    "vid": _preset(hard_labels=1, variational_information=1),
    "crd": _preset(hard_labels=1, contrastive_representation=0.8),
    "review": _preset(hard_labels=1, review={"weight": 5, "warmup": WARMUP}),
    "srd": _preset(hard_labels=1, simple_recipe=1),
    "kd+hint": _preset(hard_labels=0.1, soft_targets=0.9, hint=100),
    "adversarial": _preset(hard_labels=1, adversarial=0.1),
}


def preset_terms(name: str, *path: str | int, published: bool = False) -> list[Term]:
    """Return the terms of a preset.

    Args:
        name: The name of the preset.
        path: The path of the field that holds the name, for the error message.
        published: Whether the terms have their published weights. By default, the weights of terms that use the teacher
            are calibrated.

    Raises:
        PydanticCustomError: No preset has this name.
    """
    if name in PRESETS:
        preset = PRESETS[name]
        return list(preset.published if published else preset.terms)
    if name in LOSSES:
        terms = f"{{name: NAME, terms: [{{{name}: {{weight: 1}}}}]}}"
        raise mistake(f"{show(name)} is a loss. Allowed: {terms}, or a preset: {', '.join(PRESETS)}", *path)
    raise mistake(f"unknown preset {show(name)}. {allowed(name, PRESETS)}", *path)
