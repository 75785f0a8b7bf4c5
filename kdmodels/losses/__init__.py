"""Distillation losses as pure functions of tensors.

Student first, teacher second, hyperparameters by keyword. One value per example, shape (B,): the caller reduces.
A loss on what a batch has in common has one value per batch, shape (), and says so.
No gradient reaches a teacher.
"""

from kdmodels.losses.adversarial import Adversarial
from kdmodels.losses.contrastive import ContrastiveRepresentation
from kdmodels.losses.features import (
    HintRegressor,
    attention_transfer,
    cosine_features,
    hint,
    match_size,
    neuron_selectivity,
)
from kdmodels.losses.logits import (
    decoupled,
    dist,
    ensemble_logits,
    hard_labels,
    label_smoothing,
    logit_regression,
    reverse_soft_targets,
    soft_targets,
    standardise,
    standardised_soft_targets,
)
from kdmodels.losses.relations import (
    distance_metric,
    flow_of_solution,
    probabilistic_transfer,
    relational_angle,
    relational_distance,
    similarity_preserving,
)
from kdmodels.losses.review import ReviewFusion, review
from kdmodels.losses.simple_recipe import SimpleRecipe
from kdmodels.losses.variational import VariationalInformation

__all__ = [
    "Adversarial",
    "ContrastiveRepresentation",
    "HintRegressor",
    "ReviewFusion",
    "SimpleRecipe",
    "VariationalInformation",
    "attention_transfer",
    "cosine_features",
    "decoupled",
    "dist",
    "distance_metric",
    "ensemble_logits",
    "flow_of_solution",
    "hard_labels",
    "hint",
    "label_smoothing",
    "logit_regression",
    "match_size",
    "neuron_selectivity",
    "probabilistic_transfer",
    "relational_angle",
    "relational_distance",
    "reverse_soft_targets",
    "review",
    "similarity_preserving",
    "soft_targets",
    "standardise",
    "standardised_soft_targets",
]
