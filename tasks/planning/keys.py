"""Cache keys. The key of a run is the digest of everything that determines the run's result.

The params of a run name everything that determines its result, apart from its seeds. Params name the training data, the
network, the training settings, the version of each part of kdflow that affects results, the user's own code, the torch
version and the device. The test split is not part of any key.

`student_params` and the functions beside it collect the params. `run_key` makes the key. `plan.py` looks for a finished
run with the key.

If a key changes, a new run is trained. Change the values that the functions below return only if runs must be trained
again.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from typing import NamedTuple

from pydantic import JsonValue
from torch.optim import Optimizer

from kdmodels.device import find_device
from kdmodels.experiment import Experiment, Network, Recipe, Teacher, Term, Variant
from kdmodels.experiment.augmentation import Operation, Own
from kdmodels.experiment.optimization import OPTIMIZERS, is_own_optimizer
from kdmodels.experiment.recipe import Member, Student
from kdmodels.experiment.tune import Tune, axes
from kdmodels.experiment.user_code import named_modules
from kdmodels.experiment.user_losses import is_users
from kdmodels.networks import buildable_description, sources, sources_of_code
from kdmodels.versions import versions
from tasks import tracking
from tasks.planning.networks import checkpoint_digest
from tasks.planning.objectives import supervision
from tasks.prepare_data import load
from tasks.references import CODE, DataReference, Views
from tasks.results import NETWORK

Params = dict[str, JsonValue]

LATER = ("max_norm", "init")
"""Recipe fields that older versions of kdflow lack. Only fields that are set are in a key, so old keys stay valid."""


class RunKey(NamedTuple):
    """The cache key of a run, with the params that it is computed from.

    Attributes:
        key: The digest of the params and the seeds. A finished run with an equal key is reused.
        replicas: The digest of the params without the seeds. Runs with an equal digest can share replicas.
            A replica is the network that is trained with one seed.
        params: The params by dotted name, e.g. `network.mlp`.
    """

    key: str
    replicas: str
    params: Params


def run_key(params: Params, seeds: Sequence[int]) -> RunKey:
    """Return the cache key of a run with these params and seeds."""
    flat = flatten(params)
    replicas = digest(flat)
    return RunKey(digest([replicas, *seeds]), replicas, flat)


def digest(value: JsonValue) -> str:
    """Return the digest of a value: 32 hexadecimal digits, independent of the order of the keys in mappings.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def flatten(value: JsonValue, name: str = "") -> Params:
    """Flatten nested mappings and lists of mappings to a single mapping with dotted names.

    >>> flatten({"network": {"mlp": [32]}, "terms": [{"loss": "hint"}]})
    {'network.mlp': '[32]', 'terms.0.loss': 'hint'}
    """
    items: Mapping[str, JsonValue]
    if isinstance(value, dict):
        items = value
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = {str(index): item for index, item in enumerate(value)}
    else:
        return {name: json.dumps(value, sort_keys=True) if isinstance(value, list) else value}
    flat: Params = {}
    for key, item in items.items():
        flat |= flatten(item, f"{name}.{key}" if name else key)
    return flat


def threads(experiment: Experiment) -> int:
    """Return the number of intra-op threads of one training.

    The number is part of the cache key, because the rounding of a sum depends on how the sum is divided among threads.
    """
    return experiment.threads or os.cpu_count() or 1


# The fields of `data.transfer` that are params. A path and a generator are identified by their content.
TRANSFER = {"count", "classes", "noise", "alone"}


def common_params(
    experiment: Experiment, data: DataReference, augment: Sequence[Operation], *, transfer: bool = False
) -> Params:
    """Return the params that all runs have: training data, augmentation, threads, device and torch version.

    Args:
        transfer: Whether the run depends on the images of `data.transfer`. Runs of teachers do not depend on them.

    Raises:
        UserError: the device does not exist.
    """
    # The digest alone identifies the training data. The settings are added so that the plan can name a changed setting.
    settings = data.data.model_dump(mode="json", include={"size", "normalise", "validation", "subset"})
    settings["augment"] = [operation.model_dump(mode="json") for operation in augment]
    # Fields that older versions of kdflow lack are left out while they have their defaults, so old keys stay valid.
    settings |= data.data.model_dump(
        mode="json",
        include={"labelled": True, "validate_every": True} | ({"transfer": TRANSFER} if transfer else {}),
        exclude_defaults=True,
    )
    if transfer and data.generator_digest:
        settings["transfer"]["generator"] = data.generator_digest
    params: Params = {
        "data": {**settings, "digest": data.distillation_digest if transfer else data.training_digest},
        "threads": threads(experiment),
        "device": find_device(experiment.device).type,
        "torch": version("torch"),
    }
    if augment:
        params["augment_seed"] = experiment.seed
    return params


def teacher_params(teacher: Member, experiment: Experiment, data: DataReference) -> Params:
    """Return all params of a teacher or of a member of an ensemble.

    Raises:
        UserError: the device, the checkpoint or the registered model does not exist.
    """
    augment = experiment.teacher_augment(teacher)
    params = common_params(experiment, data.of(teacher), augment)
    if teacher.data:
        # The teacher is trained on its own data, but validated on the students' validation split.
        params["data.validation_digest"] = load(data).split_digests["validation"]
    changes = teacher.model_dump(mode="json", include={"normalise", "size"})
    params |= {name: value for name, value in changes.items() if value is not None}
    return params | _origin_params(teacher, data, augment, named_modules(experiment))


def _origin_params(
    teacher: Member, data: DataReference, augment: Sequence[Operation], modules: Collection[str]
) -> Params:
    """Return the params that describe the origin of a teacher: a checkpoint, the registry, or training.

    Args:
        modules: The modules that the user named. A registered network may run their code.
    """
    if teacher.registry:
        model = tracking.find_model(teacher.registry)
        network = buildable_description(tracking.artifact(model.run_id or "", NETWORK), modules).network
        params: Params = {"registry": {"model": model.model, "version": model.version, "run": model.run_id}}
        return params | _code_params(network, augment, is_teacher=True)
    assert teacher.network is not None
    if teacher.checkpoint:
        weights = checkpoint_digest(teacher, data)
        params = {"checkpoint": weights, "network": teacher.network.model_dump(mode="json")}
        return params | _code_params(teacher.network, augment, is_teacher=True)
    params = _recipe_params(teacher, {"network", *Teacher.training})
    return params | _code_params(teacher.network, augment, teacher, [supervision(teacher)], is_teacher=True)


def ensemble_params(members: Sequence[str], experiment: Experiment, data: DataReference) -> Params:
    """Return all params of an ensemble.

    Args:
        members: The cache keys of the members' runs.
    """
    augment = experiment.student_augment
    params = common_params(experiment, data, augment)
    if any(experiment.teacher_augment(member) == augment for member in experiment.teacher.members):
        augment = ()  # the key of this member already covers the versions of the augmentation
    code: Params = {CODE: {**versions(None, augment=augment, is_teacher=True)}, "source": {**augment_sources(augment)}}
    return params | {"members": [*members], **code}


def student_params(
    variant: Variant, experiment: Experiment, data: DataReference, teacher_key: str, views: Views
) -> Params:
    """Return all params of a variant's student. If a loss term uses the teacher, include the teacher's cache key."""
    student, augment = experiment.student_of(variant), experiment.student_augment
    params = common_params(experiment, data, augment, transfer=variant.needs_teacher or variant.equal_steps)
    params |= _recipe_params(student, Student.model_fields.keys() - {"seeds", "augment"})
    params["terms"] = [term.model_dump(mode="json") for term in variant.terms]
    params |= _code_params(student.network, augment, student, variant.terms, is_tuned=experiment.tune is not None)
    if augment:
        params["views"] = min(views.count or student.epochs, student.epochs)
    if variant.equal_steps:
        params["equal_steps"] = data.examples["taught"]  # number of examples in an epoch
    if variant.needs_teacher:
        params |= {"teacher": teacher_key, "live_teacher": not views.count}
    if experiment.tune:
        params["tune"] = _tune_params(experiment.tune, variant, student, experiment.seed)
    return params


def _tune_params(tune: Tune, variant: Variant, student: Student, seed: int) -> Params:
    """Return the params of a search: trials, epochs, seed and ranges, which determine the chosen hyperparameters."""
    ranges: dict[str, JsonValue] = {
        axis.name: [axis.low, axis.high] for axis in axes(variant.terms, student, tune.space)
    }
    return {"trials": tune.trials, "epochs": tune.epochs, "seed": seed, "space": ranges}


def _code_params(
    network: Network,
    augment: Sequence[Operation],
    recipe: Recipe | None = None,
    terms: Sequence[Term] = (),
    **roles: bool,
) -> Params:
    """Return the versions of all code that a run depends on: kdflow, the library of the network, and the user's code.

    Args:
        roles: Arguments of `versions`: `is_teacher` or `is_tuned`.
    """
    results = versions(network, recipe=recipe, terms=terms, augment=augment, **roles)
    code = sources(network)
    for term in terms:
        if is_users(term.loss):
            code |= sources_of_code("terms", term.loss)
    for optimizer in recipe.optimizer if recipe else ():
        if is_own_optimizer(optimizer):
            code |= sources_of_code("optimizer", optimizer, Optimizer)
    return {CODE: {**results}, "source": {**code, **augment_sources(augment)}}


def augment_sources(augment: Sequence[Operation]) -> dict[str, str]:
    """Return the digests of the code of the user's own augmentations, by the name of the module."""
    names = [operation.own.name for operation in augment if isinstance(operation, Own)]
    return {module: digest for name in names for module, digest in sources_of_code("augment", name).items()}


def _recipe_params(recipe: Recipe, fields: Collection[str]) -> Params:
    """Return these fields of a recipe, and its optimizer with all arguments."""
    unset = {name for name in LATER if getattr(recipe, name) is None}
    return recipe.model_dump(mode="json", include={*fields} - unset) | _optimizer_params(recipe)


def _optimizer_params(recipe: Recipe) -> Params:
    """Return the optimizer with all its arguments, so that the cache key changes if a default changes."""
    ((name, arguments),) = recipe.optimizer.items()
    if is_own_optimizer(name):
        return recipe.model_dump(mode="json", include={"optimizer"})  # its code is in the key
    return {"optimizer": {name: OPTIMIZERS[name].model_validate(arguments).model_dump(mode="json")}}
