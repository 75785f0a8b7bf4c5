"""Distillation losses as pure functions of tensors.

Every loss takes the student's tensors first, the teacher's tensors second, and hyperparameters by keyword. Most losses
return one value per example, (B,), and the caller averages the values. A loss that depends on the batch as a whole
returns one value per batch, (). No gradient reaches a teacher.

To add a loss, edit two files:

1. A module of this package: `logits.py`, `features.py`, `relations.py` or a new file. Write the function (or
   `nn.Module`), and add its builder to `BUILDERS`. A builder is a function that adapts a loss to the trainer. For most
   losses, a function of `term_loss.py` makes the builder, as in `"my_loss": on_logits(my_loss)`. If the loss has
   weights or memory, its builder returns a `TermLoss` with the modules that hold them. For examples, see
   `simple_recipe.py` and `contrastive.py`.
2. `kdmodels/experiment/catalogue.py`. Add a row for the loss. The field `file` of the row names the module from step 1.
   The row also lists the defaults of the hyperparameters.

The row makes the loss available in experiment files and defines the name of its metric. Then run `make docs`, and run
`python -m tests.kdmodels.golden` to record the values of the new loss. Optionally, import the loss in this file, so
that notebooks can use it, and add a preset to `experiment/presets.py`.

Users bring losses without editing these files. Their experiment file names a function or class of their own module, and
`user_loss.py` makes its builder.
"""

from kdmodels.losses.adversarial import Adversarial
from kdmodels.losses.boundaries import activation_boundaries, overhaul
from kdmodels.losses.congruence import CorrelationCongruence, correlation_congruence
from kdmodels.losses.contrastive import ContrastiveRepresentation
from kdmodels.losses.ensemble import ensemble_logits
from kdmodels.losses.features import (
    attention_transfer,
    channel_correlation,
    cosine_features,
    hint,
    neuron_selectivity,
)
from kdmodels.losses.logits import (
    decoupled,
    dist,
    hard_labels,
    label_smoothing,
    logit_regression,
    reverse_soft_targets,
    soft_targets,
    standardise,
    standardised_soft_targets,
)
from kdmodels.losses.regressor import HintRegressor, match_size
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
    "CorrelationCongruence",
    "HintRegressor",
    "ReviewFusion",
    "SimpleRecipe",
    "VariationalInformation",
    "activation_boundaries",
    "attention_transfer",
    "channel_correlation",
    "correlation_congruence",
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
    "overhaul",
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
