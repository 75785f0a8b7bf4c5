"""Calibration of the weights of terms that use the teacher, from the sizes of the terms' gradients.

The size of a loss depends on the networks and the data. A weight that was published for one pair of networks can be far
too large for another pair: the gradient of the term can be hundreds of times larger than the gradient of cross entropy.
A calibrated weight makes up for this difference.

The weights are calibrated before the training, and stay fixed during the training:

1. Draw `BATCHES` batches, and leave the student at its initial weights.
2. For each batch, compute the norm of each term's gradient.
3. For as many batches of labelled examples, compute the norm of the gradient of cross entropy.
4. Divide the mean norm of a term by the mean norm of cross entropy. The result is the ratio of the term.
5. Divide `auto`, the number in the experiment file, by this ratio. The result is the weight of the term.
6. If a variant has n calibrated terms, divide each of these weights by n.

The norms include only the parameters of the student that both the term and cross entropy train.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import chain
from math import inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdmodels.device import out_of_memory_as_user_error
from kdmodels.errors import UserError
from kdmodels.experiment import Recipe
from kdmodels.experiment.terms import Calibrated, Term
from kdmodels.losses.term_loss import Shape
from kdmodels.randomness import generator_for
from kdmodels.training.batches import Batches
from kdmodels.training.distiller import Distiller
from kdmodels.training.setting import setting_of
from kdmodels.training.stack import Stack

BATCHES = 8
SEED = 0
"""Seed of the initial weights and of the batches. All replicas share one calibration, whatever their seeds are."""

LABELS = Term(loss="hard_labels")


class Calibration(NamedTuple):
    """The weights of an objective's terms, and the sizes of the terms' gradients.

    Attributes:
        terms: The terms, with numbers as weights.
        ratios: The ratio of each term that uses the teacher, by the name of the loss. The ratio is the norm of the
            gradient of the weighted term, divided by the norm of the gradient of cross entropy at weight 1. If no
            example has a label, the first term at weight 1 takes the place of cross entropy. Ratios that are not
            finite are left out.
    """

    terms: list[Term]
    ratios: dict[str, float]


def calibrate(
    network: nn.Module,
    objectives: Sequence[Sequence[Term]],
    recipe: Recipe,
    batches: Batches,
    teacher_shapes: Mapping[str, Shape],
) -> list[Calibration]:
    """Choose the calibrated weights of objectives, and measure the ratios of all terms that use the teacher.

    The network and the states of global random generators are not changed. If objectives differ only in their weights,
    the gradients are measured once. If the student is stackable, objectives that differ in hyperparameters are measured
    in one computation.

    Args:
        network: The student. Its structure and pretrained weights are used.
        objectives: The terms of each objective. All objectives have the same losses in the same order.
        recipe: Settings of the training.
        batches: Source of the training batches, with the teacher's outputs.
        teacher_shapes: Shape of one example's features at each place in the teacher where features are taken.

    Returns:
        The calibration of each objective, in the order of `objectives`.

    Raises:
        UserError: A term with a calibrated weight has a ratio of zero, infinity or NaN.
    """
    distilled = [[_at_weight_one(term) for term in terms if term.row.needs != "labels"] for terms in objectives]
    if not distilled[0]:
        return [Calibration(list(terms), {}) for terms in objectives]
    keys = [tuple(term.model_dump_json() for term in terms) for terms in distilled]
    distinct = dict(zip(keys, distilled, strict=True))
    with out_of_memory_as_user_error({"batch": recipe.batch}):
        measured = _gradient_ratios(network, [*distinct.values()], recipe, batches, teacher_shapes)
    sizes = dict(zip(distinct, measured, strict=True))
    return [_calibration(terms, sizes[key]) for terms, key in zip(objectives, keys, strict=True)]


def _at_weight_one(term: Term) -> Term:
    return term.model_copy(update={"weight": 1.0})


def _calibration(terms: Sequence[Term], sizes: Mapping[str, float]) -> Calibration:
    """Return the calibration of an objective.

    Args:
        terms: Terms of the objective.
        sizes: The ratio of each term that uses the teacher, at weight 1, by the name of the loss. See
            `_gradient_ratios`.
    """
    parts = sum(isinstance(term.weight, Calibrated) for term in terms)
    calibrated = [_with_weight(term, sizes.get(term.loss, 0.0), parts) for term in terms]
    ratios = {term.loss: term.factor * sizes[term.loss] for term in calibrated if term.loss in sizes}
    return Calibration(calibrated, {loss: ratio for loss, ratio in ratios.items() if isfinite(ratio)})


def _with_weight(term: Term, size: float, parts: int) -> Term:
    if not isinstance(term.weight, Calibrated):
        return term
    if not (0 < size < inf and isfinite(1 / size)):
        raise UserError(
            f"{term.loss}: weight auto compares the gradient with that of the labels, and the ratio is {size:g} at the "
            "start of the training. Allowed: a number as weight"
        )
    return term.model_copy(update={"weight": term.weight.auto / (size * parts)})


def _gradient_ratios(
    network: nn.Module,
    objectives: Sequence[Sequence[Term]],
    recipe: Recipe,
    batches: Batches,
    teacher_shapes: Mapping[str, Shape],
) -> list[dict[str, float]]:
    """Return the norm of each term's gradient, divided by the norm of cross entropy's gradient.

    If no training example has a label, the norms are divided by the norm of the first term's gradient.

    Args:
        objectives: The terms of each objective, at weight 1. They are measured in one computation if the distiller is
            stackable, and otherwise one after the other.

    Returns:
        One mapping per objective, from the name of each loss to its ratio.
    """
    labels = batches.split.labels
    settings = [setting_of(recipe, [LABELS, *terms]) for terms in objectives]
    distiller = Distiller(
        deepcopy(network),
        settings[0].terms,
        recipe,
        input_shape=tuple(batches.split.pixels.shape[1:]),
        teacher_shapes=teacher_shapes,
        labels=labels,
    )
    if len(objectives) > 1 and not distiller.stackable:
        alone = (_gradient_ratios(network, [terms], recipe, batches, teacher_shapes) for terms in objectives)
        return list(chain.from_iterable(alone))
    seeds = [SEED] * len(objectives)  # one per replica, all equal
    stack = Stack(distiller, recipe, (batches, batches), seeds, batches.device, settings)
    distiller.train()
    is_labelled = labels[batches.examples] >= 0
    labelled, unlabelled = batches.examples[is_labelled], batches.examples[~is_labelled]
    # Batch norm needs two examples. The mean of cross entropy over the known labels ignores unlabelled examples.
    filling = unlabelled[: max(0, 2 - len(labelled))][None]  # (1, F), F is 0, 1 or 2
    losses = [term.loss for term in objectives[0]]  # T losses
    norms: list[Tensor] = []  # one tensor per batch, (2, T, S): norms of the terms, and of cross entropy
    draws, generator = stack.generators(1), generator_for(SEED, "calibration")
    for step in range(BATCHES):
        rows = _rows(batches.examples, recipe.batch, generator).expand(len(seeds), -1)
        values = stack.train_values(rows, 1, step, draws)
        of_terms = [_squares(stack, values[loss]) for loss in losses]
        of_labels = of_terms[0]  # if no example has a label, the first term takes the place of cross entropy
        if len(labelled):
            rows = torch.cat([_rows(labelled, recipe.batch, generator), filling], dim=1).expand(len(seeds), -1)
            of_labels = _squares(stack, stack.train_values(rows, 1, step, draws)[LABELS.loss])
        norms.append(torch.stack([_norms(squares, of_labels) for squares in of_terms], dim=1))
    of_each, of_cross_entropy = torch.stack(norms).sum(dim=0).cpu()
    ratios = of_each / of_cross_entropy  # (T, S)
    return [dict(zip(losses, column.tolist(), strict=True)) for column in ratios.mT]


def _rows(rows: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Draw a batch of examples without replacement, as indices (1, B)."""
    return rows[torch.randperm(len(rows), generator=generator)[:batch]][None]


def _squares(stack: Stack, value: Tensor) -> dict[str, Tensor]:
    """Return the squared norms (S,) of a value's gradients, by the name of the student's parameter.

    Parameters without a gradient are left out.

    Args:
        stack: S replicas of the student.
        value: The value of each replica, (S,).
    """
    leaves = {name: leaf for name, leaf in stack.leaves.items() if name.startswith("student.")}
    gradients = torch.autograd.grad(value.sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
    reached = {name: tensor for name, tensor in zip(leaves, gradients, strict=True) if tensor is not None}
    rows = reached if stack.stacked else {name: tensor[None] for name, tensor in reached.items()}  # (S, ...) each
    return {
        name: tensor.double().square()[..., None].sum(dim=list(range(1, tensor.ndim + 1)))
        for name, tensor in rows.items()
    }


def _norms(of_term: Mapping[str, Tensor], of_labels: Mapping[str, Tensor]) -> Tensor:
    """Return the norms of a term's gradient and of cross entropy's gradient, (2, S), in this order.

    The norms include only the parameters that have both gradients.

    Args:
        of_term, of_labels: The squared norms (S,) of the two gradients, by the name of the parameter.
    """
    shared = [name for name in of_term if name in of_labels]  # in a fixed order, because rounding depends on the order
    zero = torch.zeros_like(next(iter(of_labels.values())))
    return torch.stack([sum((each[name] for name in shared), zero).sqrt() for each in (of_term, of_labels)])
