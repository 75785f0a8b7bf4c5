"""The versions of kdflow's results, which are part of every run's key.

An upgrade that changes no result keeps all keys, so that finished runs are reused. One that changes a result raises the
row of what changed, and only runs that depend on that row are trained anew.

`tests/kdmodels/test_versions.py` trains and measures one small case of everything in the table, and compares the
figures with recorded ones. If a figure moves, the test names the row to raise. After that, record the new figures by
`python -m tests.kdmodels.golden`. What no case shows is not noticed: an effect below the test's tolerance, on sizes or
settings that no case has, on a GPU, or of `compile`. Raise the row by hand if you know of such a change.
"""

from collections.abc import Iterable, Mapping

from kdmodels.catalogue import LOSSES
from kdmodels.network import Network
from kdmodels.recipe import Recipe
from kdmodels.terms import Term
from kdmodels.views import Operation

VERSIONS: Mapping[str, int] = {
    "data": 1,  # decoding, resizing, splits and normalisation
    "augment.jitter": 1,
    "augment.crop": 1,
    "augment.flip": 1,
    "augment.randaugment": 1,
    "augment.mixup": 1,
    "augment.cutmix": 1,
    "network.mlp": 1,  # structure and initial weights
    "network.conv": 1,
    "network.name": 1,
    "network.compact": 1,
    "network.torchvision": 1,
    "network.timm": 1,
    "network.module": 1,
    "loss.hard_labels": 1,
    "loss.label_smoothing": 1,
    "loss.soft_targets": 1,
    "loss.reverse_soft_targets": 1,
    "loss.standardised_soft_targets": 1,
    "loss.logit_regression": 1,
    "loss.decoupled": 1,
    "loss.dist": 1,
    "loss.adversarial": 1,
    "loss.hint": 1,
    "loss.cosine_features": 1,
    "loss.attention_transfer": 1,
    "loss.neuron_selectivity": 1,
    "loss.similarity_preserving": 1,
    "loss.relational_distance": 1,
    "loss.relational_angle": 1,
    "loss.distance_metric": 1,
    "loss.probabilistic_transfer": 1,
    "loss.flow_of_solution": 1,
    "loss.review": 1,
    "loss.variational_information": 1,
    "loss.contrastive_representation": 1,
    "loss.simple_recipe": 1,
    "optimizer.adam": 1,
    "optimizer.adamw": 1,
    "optimizer.sgd": 1,
    "schedule.cosine": 1,
    "schedule.step": 1,
    "schedule.constant": 1,
    "schedule.one_cycle": 1,
    "knowledge": 1,  # what a teacher says, stored or live, of one network or of an ensemble
    "training": 1,  # all else: batches, steps, averages, clipping, balance, selection, measuring
}


def versions(
    network: Network | None,
    *,
    recipe: Recipe | None = None,
    terms: Iterable[Term] = (),
    augment: Iterable[Operation] = (),
    is_teacher: bool = False,
) -> dict[str, int]:
    """Return the rows of the table that a run depends on.

    Args:
        network: None: an ensemble.
        recipe: how the network is trained; None: it is only read and measured.
        terms: the objective.
        augment: what is done to the training images.
        is_teacher: the run holds a teacher's knowledge too.

    >>> versions(Network(mlp=[8]))
    {'data': 1, 'network.mlp': 1}
    """
    names = {"data"}
    if network is not None:
        names.add(f"network.{network.kind}")
    if recipe is not None:
        names |= {"training", *(f"optimizer.{name}" for name in recipe.optimizer)}
        names |= {f"schedule.{name}" for name in recipe.schedule or ()}
    names |= {f"loss.{term.loss}" for term in terms}
    names |= {f"augment.{name}" for operation in augment for name in type(operation).model_fields}
    if is_teacher or any(LOSSES[term.loss].needs != "labels" for term in terms):
        names.add("knowledge")
    return {name: VERSIONS[name] for name in sorted(names)}


def is_outdated(params: Mapping[str, str], prefix: str) -> bool:
    """Return whether a run recorded other versions than today's, or a digest of the code instead, as it once was.

    Args:
        params: the run's, in which a row's name follows the prefix and a dot.
    """
    recorded = {
        name.removeprefix(f"{prefix}."): value for name, value in params.items() if name.startswith(f"{prefix}.")
    }
    return prefix in params or any(str(VERSIONS.get(name)) != value for name, value in recorded.items())
