"""Versions of the parts of kdflow that affect results, such as a loss or an optimizer.

The table `VERSIONS` has one row per part. The versions are included in the cache key of a run, which
`tasks/planning/keys.py` computes. A finished run with the same key is reused.

If a change to kdflow changes the results of a part, increase the version of this part. Only the runs that depend on
this part are then trained again. If a change to kdflow changes no result, all keys stay the same.

`tests/kdmodels/test_versions.py` trains and measures one small case per row, and compares the results with recorded
results. If a result differs, the test names the row whose version must be increased. After increasing the version,
record the new results with `python -m tests.kdmodels.golden`.

Some changes of results are not detected by the test:

- changes that are smaller than the test's tolerance
- changes that occur only on a GPU or with `compile`
- changes that occur only with sizes or settings that no case uses

If you know of such a change, increase the version of the row yourself.
"""

from collections.abc import Collection, Iterable, Mapping

from kdmodels.experiment.augmentation import Operation, Own
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.network import Network
from kdmodels.experiment.optimization import OPTIMIZERS
from kdmodels.experiment.recipe import Recipe
from kdmodels.experiment.terms import Calibrated, Term

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
    "network.torchvision": 2,
    "network.timm": 1,
    "network.module": 2,
    **{f"loss.{name}": loss.version for name, loss in LOSSES.items()},
    "optimizer.adam": 1,
    "optimizer.adamw": 1,
    "optimizer.sgd": 1,
    "schedule.cosine": 1,
    "schedule.step": 1,
    "schedule.constant": 1,
    "schedule.one_cycle": 1,
    "calibration": 1,  # loss weights that are computed from the size of gradients
    "knowledge": 1,  # stored or live outputs of a teacher, which is one network or an ensemble
    "generator.vae": 1,  # networks, training and measures
    "generator.gan": 1,
    "generator.data_free": 1,
    "tuning": 3,  # trials that a search proposes, and the choice of the best
    "training": 1,  # everything else: batches, steps, averages, clipping, class balance, selection, measuring
}


def versions(
    network: Network | None,
    *,
    recipe: Recipe | None = None,
    terms: Collection[Term] = (),
    augment: Iterable[Operation] = (),
    is_teacher: bool = False,
    is_tuned: bool = False,
) -> dict[str, int]:
    """Return the current versions of the parts that affect a run's results, by the name of the part.

    Args:
        network: The network of the run. `None` if the run combines an ensemble, whose members have their own runs.
        recipe: The training settings. `None` if the run trains no network, for example because weights are read from a
            checkpoint.
        terms: The terms of the training objective.
        augment: The operations that augment the training images.
        is_teacher: Whether the network or ensemble is a teacher, whose outputs are used to train students.
        is_tuned: Whether a search chooses the hyperparameters of the training.

    >>> versions(Network(mlp=[8]))
    {'data': 1, 'network.mlp': 1}
    """
    names = {"data"}
    if network is not None:
        names.add(f"network.{network.kind}")
    if recipe is not None:
        names |= {"training", *(f"optimizer.{name}" for name in recipe.optimizer if name in OPTIMIZERS)}
        names |= {f"schedule.{name}" for name in recipe.schedule or ()}
    names |= {f"loss.{term.loss}" for term in terms if term.loss in LOSSES}  # a user's loss has a digest of its code
    if any(isinstance(term.weight, Calibrated) for term in terms):
        names.add("calibration")
    # A user's augmentation has a digest of its code.
    parts = [type(operation) for operation in augment if not isinstance(operation, Own)]
    names |= {f"augment.{name}" for part in parts for name in part.model_fields}
    if is_teacher or any(term.row.needs != "labels" for term in terms):
        names.add("knowledge")
    if is_tuned:
        names.add("tuning")
    return {name: VERSIONS[name] for name in sorted(names)}


def is_outdated(params: Mapping[str, str], prefix: str) -> bool:
    """Return whether a version that a run recorded differs from the current version.

    Very old runs recorded a digest of the code instead of versions. Such runs are always outdated. A run that has
    recorded neither is not outdated.

    Args:
        params: The params of the run, by name. The recorded version of each row of `VERSIONS` is in the param
            `PREFIX.ROW`, e.g. `PREFIX.loss.hint`. Very old runs recorded the digest in the param `PREFIX`.
        prefix: The prefix of the params that hold versions.
    """
    recorded = {
        name.removeprefix(f"{prefix}."): value for name, value in params.items() if name.startswith(f"{prefix}.")
    }
    return prefix in params or any(str(VERSIONS.get(name)) != value for name, value in recorded.items())
