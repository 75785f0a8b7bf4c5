"""The plan: what is reused, what is trained, and why. A key is the digest of all that determines a result."""

import json
import os
from collections.abc import Collection, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from kdmodels.catalogue import LOSSES
from kdmodels.data.files import listed
from kdmodels.device import find_device, told_when_full
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Experiment, Network, Recipe, Student, Teacher, Term, Variant
from kdmodels.folders import find_path
from kdmodels.networks import (
    Description,
    Tap,
    buildable_description,
    find_tap,
    load_network,
    read_state,
    replaced_head,
    sources,
    within_budget,
)
from kdmodels.networks.storage import fill
from kdmodels.own_code import named_modules
from kdmodels.recipe import OPTIMIZERS, WEIGHTS_FILES, Member
from kdmodels.serving.graph import graph_of
from kdmodels.training import Distiller
from kdmodels.versions import versions
from tasks import tracking
from tasks.reasons import explained
from tasks.references import CODE, DataReference, Plan, Step, Views
from tasks.results import NETWORK
from tasks.views import choose_views

TRIAL = 2  # examples of which an objective is told while it is only tried
Sized = TypeVar("Sized", Member, Teacher, Student, Student | None)
RECENT = 1_000  # runs among which an earlier one of the same name is sought, to say what has changed since


def make_plan(experiment: Experiment, data: DataReference, *, fresh: bool = False) -> Plan:
    """Look every key up in the ledger; `fresh` reuses nothing.

    Raises:
        UserError: the teacher's checkpoint or registered model does not exist, or a tapped place, or the device; or as
            `choose_views`.
    """
    notes, shapes = check_objectives(experiment, data)
    views = choose_views(experiment, data, shapes)
    seeds = [experiment.seed + i for i in range(experiment.student.seeds)]
    common, classes = _common(experiment, data), len(data.classes)
    teachers = [_member(index, experiment, data, common) for index in range(len(experiment.teacher.members))]
    if experiment.teacher.ensemble:
        keys = [member.key for member in teachers]
        joined = common | {"members": keys, CODE: versions(None, is_teacher=True)}
        teachers.append(_step("teacher", "teacher", joined, [experiment.seed]))
    teacher = teachers[-1]
    students = [
        _step(variant.name, "student", common | _student(variant, experiment, data, teacher.key, views), seeds)
        for variant in experiment.variants
    ]
    heads = [replaced_head(experiment.student_of(variant).network, classes) for variant in experiment.variants]
    students = [
        step.model_copy(update={"note": "; ".join(filter(None, (head, note)))})
        for step, head, note in zip(students, heads, notes, strict=True)
    ]
    steps = [*teachers, *students]
    if data.data.folds:
        of = f"{data.fold + 1}/{data.data.folds}"
        steps = [step.model_copy(update={"name": f"{step.name} {of}", "fold": of}) for step in steps]
    if fresh:
        steps = [step.model_copy(update={"reason": "--fresh", "fresh": True}) for step in steps]
    else:
        finished = {
            kind: tracking.finished(kind, [step.key for step in steps if step.kind == kind])
            for kind in ("teacher", "student")
        }
        steps = [_reused(step, finished[step.kind][step.key]) if step.key in finished[step.kind] else step
                 for step in steps]  # fmt: skip
        if any(step.action == "train" for step in steps):
            recent = [run for run in tracking.runs(limit=RECENT) if run.experiment == experiment.name]
            steps = [explained(step, recent, experiment.name) if step.action == "train" else step for step in steps]
    *members, teacher = steps[: len(teachers)]
    return Plan(members=members, teacher=teacher, knowledge=views, students=steps[len(teachers) :], notes=data.notes)


def sized(experiment: Experiment, data: DataReference) -> Experiment:
    """The experiment with the networks that its budgets allow: their width and depth are recorded, and in every key.

    Raises:
        UserError: no network fits its budget.
    """

    def settled(part: Sized) -> Sized:
        if part is None or part.network is None:
            return part
        network = within_budget(part.network, input_shape=data.input_shape, classes=len(data.classes))
        return part.model_copy(update={"network": network})

    variants = [variant.model_copy(update={"student": settled(variant.student)}) for variant in experiment.variants]
    return experiment.model_copy(
        update={
            "teacher": settled(experiment.teacher).model_copy(
                update={"ensemble": [settled(member) for member in experiment.teacher.ensemble]}
            ),
            "student": settled(experiment.student),
            "variants": variants,
        }
    )


def check_objectives(experiment: Experiment, data: DataReference) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Try every objective on the networks as they will be built, before any is trained.

    Returns:
        For each variant, what its terms leave untrained, in words; empty where they train all of the student. And the
        shape of one example's features at each of the teacher's places that any of them taps.

    Raises:
        UserError: a tapped place does not exist, its features can't be compared, no term reaches the student, or a
            network can't be written as ONNX; or as `registered_teacher`.
    """
    code = named_modules(experiment)
    teacher, *_ = [_untrained_teacher(member, data, code) for member in experiment.teacher.members]
    notes: list[str] = []
    all_shapes: dict[str, tuple[int, ...]] = {}
    for variant in experiment.variants:  # those of an ensemble tap no teacher
        recipe = experiment.student_of(variant)
        student = describe(recipe.network, data).build(pretrained=False)
        try:
            shapes = {at: _teacher_tap(teacher, at).shape(teacher, data.input_shape) for at in variant.teacher_places}
            distiller = _tried(student, variant.terms, recipe, data, shapes)
            graph_of(describe(recipe.network, data))
        except UserError as error:
            raise type(error)(f"variant {variant.name}: {error}") from error
        notes.append(_untrained(distiller))
        all_shapes |= shapes
    return notes, all_shapes


def _untrained_teacher(teacher: Member, data: DataReference, code: Collection[str]) -> nn.Module:
    """Its network, on which its own training is tried, if it is to be trained."""
    if teacher.registry:
        return registered_teacher(teacher.registry, data, code)[0]
    assert teacher.network is not None
    network = describe(teacher.network, data).build(pretrained=False)
    try:
        if not teacher.checkpoint:
            _tried(network, [Term(loss="hard_labels")], teacher, data, {})
        graph_of(describe(teacher.network, data))
    except UserError as error:
        raise type(error)(f"teacher: {error}") from error
    return network


def _tried(
    network: nn.Module, terms: Sequence[Term], recipe: Recipe, data: DataReference, shapes: dict[str, tuple[int, ...]]
) -> Distiller:
    with told_when_full({"the network's size": f"for {TRIAL} images"}):
        return Distiller(
            network,
            terms,
            input_shape=data.input_shape,
            teacher_shapes=shapes,
            labels=torch.arange(TRIAL),
            batch=recipe.batch,
            repeats=recipe.balance == "sampling",
        )


def _teacher_tap(teacher: nn.Module, at: str) -> Tap:
    try:
        return find_tap(teacher, at)
    except UserError as error:
        raise type(error)(f"of the teacher, {error}") from error


def _untrained(distiller: Distiller) -> str:
    """What an objective's terms leave untrained in the student, in words."""
    told = ["no term reaches the last layer: a linear probe, fitted on the labels"] if distiller.probed else []
    if distiller.unreached:
        told.append(f"untrained: {', '.join(distiller.unreached)}")
    return "; ".join(told)


def registered_teacher(word: str, data: DataReference, code: Collection[str]) -> tuple[nn.Sequential, Description]:
    """The network of a registered model, for data that it fits.

    Args:
        code: the modules that the user named, whose code the network may run.

    Raises:
        UserError: no such model, it was not made by kdflow, it is of another module, or it takes other images or knows
            other classes.
    """
    version = tracking.find_model(word)
    if version.run_id is None or not tracking.has_artifact(version.run_id, NETWORK):
        raise UserError(f"teacher.registry: {word}: was not made by kdflow; allowed: a model of a kd run")
    network, description = load_network(tracking.artifact(version.run_id, NETWORK), code)
    if description.input_shape != data.input_shape:
        raise UserError(
            f"teacher.registry: {word}: takes {description.input_shape}; {data.data.source} has {data.input_shape}"
        )
    if description.classes != data.classes:
        raise UserError(
            f"teacher.registry: {word}: knows the classes {listed(description.classes)}; "
            f"{data.data.source} has {listed(data.classes)}"
        )
    return network, description


def describe(network: Network, data: DataReference) -> Description:
    """The network for that data: its input, classes and normalisation."""
    return Description(
        network=network, input_shape=data.input_shape, classes=data.classes, mean=data.mean, std=data.std
    )


def needs_teacher(variant: Variant) -> bool:
    """Whether any term compares with the teacher; a variant of labels alone does not depend on it."""
    return any(LOSSES[term.loss].needs != "labels" for term in variant.terms)


def threads(experiment: Experiment) -> int:
    """Intra-op threads of one training: part of the key, since sums depend on how they are divided."""
    return experiment.threads or os.cpu_count() or 1


def digest(value: Any) -> str:
    """The content key of a JSON-able value.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings and lists of mappings as dotted params.

    >>> flatten({"network": {"mlp": [32]}, "terms": [{"loss": "hint"}]})
    {'network.mlp': '[32]', 'terms.0.loss': 'hint'}
    """
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {name: json.dumps(value, sort_keys=True) if isinstance(value, list) else value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flatten(item, f"{name}.{key}" if name else str(key))
    return flat


def _common(experiment: Experiment, data: DataReference) -> dict[str, Any]:
    return {
        # The digest determines the training data; the other fields tell what changed. The test split is in no key.
        "data": {
            **data.data.model_dump(mode="json", include={"size", "normalise", "validation", "subset", "augment"}),
            "digest": data.training_digest,
        },
        "threads": threads(experiment),
        "device": find_device(experiment.device).type,
        "torch": version("torch"),
    } | ({"augment_seed": experiment.seed} if data.data.augment else {})


def checkpoint(path: str, data: DataReference) -> Path:
    """Where a teacher's weights lie: as the path says, else in the data's folder.

    Raises:
        UsageError: at neither.
    """
    return find_path(path, Path(data.folder) if data.folder else None, "teacher.checkpoint", WEIGHTS_FILES)


def _member(index: int, experiment: Experiment, data: DataReference, common: dict[str, Any]) -> Step:
    """The step of one teacher; those of an ensemble that are trained here have seeds of their own."""
    teacher = experiment.teacher.members[index]
    trained = not (teacher.checkpoint or teacher.registry)
    name = f"teacher-{index + 1}" if experiment.teacher.ensemble else "teacher"
    params = _teacher(teacher, data, named_modules(experiment))
    step = _step(name, "teacher", common | params, [experiment.seed + index * trained])
    if teacher.network and not teacher.checkpoint:
        step = step.model_copy(update={"note": replaced_head(teacher.network, len(data.classes))})
    return step


def _teacher(teacher: Member, data: DataReference, code: Collection[str]) -> dict[str, Any]:
    if teacher.checkpoint:
        path = checkpoint(teacher.checkpoint, data)
        if not path.is_file():
            raise UsageError(f"teacher.checkpoint: {teacher.checkpoint}: is not a file; allowed: {WEIGHTS_FILES}")
        assert teacher.network is not None
        fill(describe(teacher.network, data).build(pretrained=False), read_state(path), path)  # before any is trained
        content = sha256(path.read_bytes()).hexdigest()
        params: dict[str, Any] = {"checkpoint": content, "network": teacher.network.model_dump(mode="json")}
        return params | _code(teacher.network, data, is_teacher=True)
    if teacher.registry:
        model = tracking.find_model(teacher.registry)
        network = buildable_description(tracking.artifact(model.run_id or "", NETWORK), code).network
        params = {"registry": {"model": model.model, "version": model.version, "run": model.run_id}}
        return params | _code(network, data, is_teacher=True)
    assert teacher.network is not None
    params = teacher.model_dump(mode="json", include={"network", *Teacher.training}) | _optimizer(teacher)
    return params | _code(teacher.network, data, recipe=teacher, terms=[supervision(teacher)], is_teacher=True)


def supervision(teacher: Member) -> Term:
    """Return the loss that a teacher is trained with."""
    if not teacher.label_smoothing:
        return Term(loss="hard_labels")
    return Term(loss="label_smoothing", hyperparameters={"epsilon": teacher.label_smoothing})


def _code(network: Network, data: DataReference, **depends: Any) -> dict[str, Any]:
    """Return the params that say which code a run depends on: versions of kdflow's results, the user's, a library's."""
    return {CODE: versions(network, augment=data.data.augment, **depends), "source": sources(network)}


def _optimizer(recipe: Recipe) -> dict[str, Any]:
    """Return the optimizer with all its arguments, so that another default is another key."""
    ((name, arguments),) = recipe.optimizer.items()
    return {"optimizer": {name: OPTIMIZERS[name].model_validate(arguments).model_dump(mode="json")}}


def _student(
    variant: Variant, experiment: Experiment, data: DataReference, teacher_key: str, views: Views
) -> dict[str, Any]:
    student = experiment.student_of(variant)
    params = student.model_dump(mode="json", exclude={"seeds"}) | _optimizer(student)
    params |= {"terms": [term.model_dump(mode="json") for term in variant.terms]}
    params |= _code(student.network, data, recipe=student, terms=variant.terms)
    if experiment.data.augment:
        params["views"] = min(views.count or student.epochs, student.epochs)
    return params | ({"teacher": teacher_key, "live_teacher": not views.count} if needs_teacher(variant) else {})


def _step(name: str, kind: Literal["teacher", "student"], params: dict[str, Any], seeds: Sequence[int]) -> Step:
    flat = flatten(params)
    replicas = digest(flat)
    return Step(
        name=name,
        kind=kind,
        action="train",
        reason="no finished run has its key",
        key=digest([replicas, *seeds]),
        replicas=replicas,
        params=flat,
        seeds=list(seeds),
    )


def _reused(step: Step, run: tracking.Run) -> Step:
    return step.model_copy(
        update={"action": "reuse", "reason": f"run {run.run_id[:8]} has the same key", "source": run.run_id}
    )
