"""A check that computes every training objective once, so that errors are detected before any training."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from kdmodels.device import out_of_memory_as_user_error
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment, Network, Recipe, Term
from kdmodels.experiment.recipe import Member
from kdmodels.experiment.user_code import named_modules
from kdmodels.networks import Tap, find_tap
from kdmodels.networks.stacked import is_stackable
from kdmodels.randomness import generator_for
from kdmodels.serving.graph import graph_of
from kdmodels.training import Distiller
from tasks.planning.networks import describe, describe_teacher, registered_teacher
from tasks.planning.warnings import probabilities
from tasks.references import DataReference

EXAMPLES = 2  # number of examples in the trial
TOLERANCE = 1e-4  # largest rounding error of the sum of a softmax's outputs
Shapes = dict[str, tuple[int, ...]]


class Trial(NamedTuple):
    """The results of computing every training objective once.

    Attributes:
        student_notes: One note per variant. It names the parameters that no loss term trains, and losses that do not
            allow seeds to be trained together. The note is empty if there is nothing to report.
        shapes: The shape of one example's features, for each layer of the teacher whose features a variant needs.
        warnings: Warnings for the user about the networks.
    """

    student_notes: list[str]
    shapes: Shapes
    warnings: list[str]


def supervision(teacher: Member) -> Term:
    """Return the loss term with which a teacher is trained."""
    if not teacher.label_smoothing:
        return Term(loss="hard_labels")
    return Term(loss="label_smoothing", hyperparameters={"epsilon": teacher.label_smoothing})


def check_objectives(experiment: Experiment, data: DataReference) -> Trial:
    """Compute every training objective once with the networks of an experiment, before any network is trained.

    Raises:
        UserError: an objective or a network cannot be used. Examples: a loss term needs the features of a layer that
            does not exist, features cannot be compared, or a network cannot be written as ONNX. For the errors of a
            registered teacher, see `registered_teacher`.
    """
    modules = named_modules(experiment)
    members = [_check_teacher(member, data, modules) for member in experiment.teacher.members]
    teacher = members[0]
    softmaxed = any(_returns_probabilities(member, data) for member in members)
    warnings = [probabilities("the teacher")] if softmaxed else []
    notes: list[str] = []
    all_shapes: Shapes = {}
    tried: list[Network] = []
    for variant in experiment.variants:  # with an ensemble, no variant needs features of the teacher
        recipe = experiment.student_of(variant)
        description = describe(recipe.network, data)
        try:
            shapes = {at: _teacher_tap(teacher, at).shape(teacher, data.input_shape) for at in variant.teacher_places}
            distiller = _try_objective(description.build(pretrained=False), variant.terms, recipe, data, shapes)
            graph_of(description)
        except UserError as error:
            raise type(error)(f"variant {variant.name}: {error}") from error
        if recipe.network not in tried and _returns_probabilities(distiller.student, data):
            warnings.append(probabilities(f"the student of {variant.name}" if variant.student else "the student"))
        tried.append(recipe.network)
        notes.append(_note(distiller))
        all_shapes |= shapes
    return Trial(notes, all_shapes, warnings)


def _check_teacher(teacher: Member, data: DataReference, modules: Collection[str]) -> nn.Module:
    """Return the teacher's network. If the teacher will be trained, first compute its training objective once."""
    if teacher.registry:
        return registered_teacher(teacher.registry, data, modules)[0]
    description = describe_teacher(teacher, data)
    network = description.build(pretrained=False)
    try:
        if not teacher.checkpoint:
            _try_objective(network, [Term(loss="hard_labels")], teacher, data, {})
        graph_of(description)
    except UserError as error:
        raise type(error)(f"teacher: {error}") from error
    return network


def _try_objective(
    network: nn.Module,
    terms: Sequence[Term],
    recipe: Recipe,
    data: DataReference,
    shapes: Mapping[str, tuple[int, ...]],
) -> Distiller:
    with out_of_memory_as_user_error({"the network's size": f"for {EXAMPLES} images"}):
        return Distiller(
            network,
            terms,
            recipe,
            input_shape=data.input_shape,
            teacher_shapes=shapes,
            labels=torch.arange(EXAMPLES),
        )


@torch.no_grad()
def _returns_probabilities(network: nn.Module, data: DataReference) -> bool:
    """Return whether the outputs for random images are at least 0 and sum to 1, like the outputs of a softmax."""
    outputs = network.eval()(torch.rand(EXAMPLES, *data.input_shape, generator=generator_for(0, "trial")))  # (B, K)
    return bool((outputs >= 0).all()) and bool((outputs.sum(dim=1) - 1).abs().max() < TOLERANCE)


def _teacher_tap(teacher: nn.Module, at: str) -> Tap:
    try:
        return find_tap(teacher, at)
    except UserError as error:
        raise type(error)(f"of the teacher, {error}") from error


def _note(distiller: Distiller) -> str:
    """Return a note on the training of a student, or "" if there is nothing to report.

    The note names the parameters that no loss term trains. If the last layer is one of them, the note says that this
    layer is fitted on the labels. If a user's loss does not work under `torch.func.vmap`, the note says that seeds are
    trained one after the other.
    """
    notes = ["no term reaches the last layer: a linear probe, fitted on the labels"] if distiller.probed else []
    if distiller.unreached:
        notes.append(f"untrained: {', '.join(distiller.unreached)}")
    if is_stackable(distiller.student) and not distiller.stackable:
        alone = [name for name, loss in distiller.objective.losses.items() if not loss.vmaps]
        notes.append(f"seeds are trained one after the other, because of {', '.join(alone)} (no torch.func.vmap)")
    return "; ".join(notes)
