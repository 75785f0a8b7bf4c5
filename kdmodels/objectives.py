"""The table of loss variants: name -> weighted terms -> paper. A row is all that a new variant takes."""

from collections.abc import Mapping
from dataclasses import dataclass

from kdmodels.catalogue import LOSSES
from kdmodels.terms import Term


@dataclass(frozen=True)
class Preset:
    """A named variant: its weighted terms, with the usual weights; the table of losses says where they come from."""

    terms: tuple[Term, ...]

    @property
    def papers(self) -> str:
        """Where the losses come from that compare with a teacher, or else the only loss."""
        distilled = [LOSSES[term.loss].paper for term in self.terms if LOSSES[term.loss].needs != "labels"]
        return "; ".join(dict.fromkeys(distilled or [LOSSES[term.loss].paper for term in self.terms]))


CONTROL = "hard-labels"
"""The same student without a teacher: every verdict compares with it."""

WARMUP = 20 / 240  # DKD's and ReviewKD's authors: 20 of 240 epochs


def _preset(**terms: object) -> Preset:
    """`loss=weight` or `loss={...}`, as an experiment file spells a term."""
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
    "fsp": _preset(hard_labels=1, flow_of_solution=50),
    "vid": _preset(hard_labels=1, variational_information=1),
    "crd": _preset(hard_labels=1, contrastive_representation=0.8),
    "review": _preset(hard_labels=1, review={"weight": 5, "warmup": WARMUP}),
    "srd": _preset(hard_labels=1, simple_recipe=1),
    "kd+hint": _preset(hard_labels=0.1, soft_targets=0.9, hint=100),
    "adversarial": _preset(hard_labels=1, adversarial=0.1),
}
