"""Training: one recipe, any objective, one replica a seed."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import isfinite

import torch
from torch import Tensor, nn

from kdmodels.catalogue import LOSSES
from kdmodels.data.augment import NONE, Augmentation
from kdmodels.data.dataset import Split
from kdmodels.device import CPU, told_when_full
from kdmodels.errors import UserError
from kdmodels.experiment import Recipe
from kdmodels.knowledge import Knowledge, LiveTeacher
from kdmodels.networks.stacked import is_stackable
from kdmodels.terms import Term
from kdmodels.training.batches import Batches, class_balance
from kdmodels.training.checkpoints import Checkpoints
from kdmodels.training.compiling import told_by_compiler
from kdmodels.training.distiller import Distiller
from kdmodels.training.replica import Replica
from kdmodels.training.stack import Stack

Taught = tuple[Knowledge | Sequence[Knowledge] | LiveTeacher, Knowledge | LiveTeacher]
"""A teacher's knowledge of the training split, of more than one view a sequence, and of the validation split."""


def fit(
    network: nn.Module,
    terms: Sequence[Term],
    recipe: Recipe,
    train: Split,
    validation: Split,
    *,
    seeds: Sequence[int],
    knowledge: Taught | None = None,
    augmentation: Augmentation = NONE,
    device: torch.device = CPU,
    on_step: Callable[[], None] = lambda: None,
    on_epoch: Callable[[int, list[Replica]], None] = lambda epoch, replicas: None,
    checkpoints: Checkpoints | None = None,
) -> list[Replica]:
    """Train one replica a seed: plain small networks stacked into one computation, all others side by side.

    A replica's initial weights, batch order and dropout are functions of its seed alone, and the same in every
    objective, so that two variants' replicas of one seed form a pair. Replicas share no arithmetic: one that
    diverges leaves the others as they are. With `recipe.patience` each ends by itself, and what is kept of it no longer
    moves. All validation figures are of the weights that would be kept: with `recipe.ema` the averaged ones.

    Args:
        network: only its structure is used, and pretrained weights; it is not changed.
        terms: the objective; a term's weight multiplies its batch mean.
        train, validation: images in [0, 1]. Labels of -1 are not known: losses on labels leave those images out.
            `validation` is only measured, and read to choose the epoch when `recipe.select` is `best-validation`.
        knowledge: the teacher's, on `train` (of more than one view a sequence) and on `validation`; needed by terms on
            logits and features. A `LiveTeacher` is asked at every batch, on its own device, which must be `device`.
        augmentation: of `train`, the same for all seeds.
        device: where it is computed; random draws are the same on all devices, but for those that a network from
            elsewhere makes of torch's own generator.
        on_step: called before every step; what it raises ends the training.
        on_epoch: called after every epoch with its number, counted from 1, and the replicas so far.
        checkpoints: where the training goes on from, if it was begun before, and what is kept of it. On the CPU, with
            as many threads the result is the same bit for bit as that of a training that nothing interrupted.

    An epoch's batches are of nearly equal size: see `batch_sizes`.

    Raises:
        UserError: a term's features do not exist or do not match, it needs a teacher's knowledge and there is none, it
            trains no part of the network, a batch of one meets batch norm or a loss that compares examples, knowledge
            and augmentation are of different numbers of views, memory runs out, or the network can't be compiled where
            the recipe asks for that.
    """
    for term in terms:
        if knowledge is None and LOSSES[term.loss].needs != "labels":
            raise UserError(f"{term.loss} compares with a teacher; give `knowledge`, its own on both splits")
    input_shape = tuple(train.pixels.shape[1:])
    shapes = {} if knowledge is None else knowledge[1].shapes(input_shape)
    batches = _batches(train, validation, knowledge, augmentation, device)
    distiller = Distiller(
        deepcopy(network),
        terms,
        input_shape=input_shape,
        teacher_shapes=shapes,
        labels=train.labels,
        batch=recipe.batch,
        repeats=recipe.balance == "sampling",
        autocast=recipe.precision == "bfloat16",
        compiled=recipe.compile,
        class_weights=class_balance(train.labels) if recipe.balance == "weights" else None,
    )
    groups = [list(seeds)] if is_stackable(network) else [[seed] for seed in seeds]
    replicas = [Replica(seed) for seed in seeds]
    places = {"at": ", ".join(shapes)} if shapes else {}
    with told_when_full({"batch": recipe.batch, "seeds": len(seeds), **places}), told_by_compiler(recipe.compile):
        stacks = [Stack(distiller, recipe, *batches, group, device) for group in groups]
        rows = [(stack, row) for stack in stacks for row in range(len(stack.seeds))]
        begun = checkpoints.latest() if checkpoints else None
        if begun:
            replicas = begun.replicas
            for stack, snapshot in zip(stacks, begun.stacks, strict=True):
                stack.restore(snapshot)
        try:
            for epoch in range(begun.epoch + 1 if begun else 1, recipe.epochs + 1):
                if all(replica.diverged or not _goes_on(replica, recipe) for replica in replicas):
                    break
                _advance(epoch, list(zip(replicas, rows, strict=True)), recipe, on_step)
                if checkpoints:
                    checkpoints.keep(epoch, replicas, [stack.snapshot() for stack in stacks])
                on_epoch(epoch, replicas)
        except BaseException:  # in the middle of an epoch, which is left out
            if checkpoints:
                checkpoints.flush()
            raise
    return replicas


def _batches(
    train: Split, validation: Split, knowledge: Taught | None, augmentation: Augmentation, device: torch.device
) -> tuple[Batches, Batches]:
    if knowledge is None:
        return Batches(train, None, augmentation, device), Batches(validation, device=device)
    of_train, of_validation = ([part] if isinstance(part, Knowledge) else part for part in knowledge)
    if not isinstance(of_train, LiveTeacher):
        views = augmentation.views if augmentation.operations else 1
        if len(of_train) != views:
            raise UserError(f"knowledge of {len(of_train)} views does not fit an augmentation of {views}")
    return Batches(train, of_train, augmentation, device), Batches(validation, of_validation, device=device)


def _advance(
    epoch: int, pairs: list[tuple[Replica, tuple[Stack, int]]], recipe: Recipe, on_step: Callable[[], None]
) -> None:
    """One epoch of every replica that has not ended; each is given with its row of a stack."""
    going = [(replica, *row) for replica, row in pairs if _goes_on(replica, recipe)]
    measured = {stack: _epoch(stack, epoch, on_step) for stack in dict.fromkeys(stack for _, stack, _ in going)}
    for replica, stack, row in going:
        every, culprits, right = measured[stack]
        figures = {name: values[row].item() for name, values in every.items()}
        replica.history.append(figures)
        if replica.diverged is None and not all(map(isfinite, figures.values())):
            replica.diverged = epoch
            replica.culprits = _first(culprits[row], figures, stack.terms)
        if _is_kept(replica, recipe):
            replica.epoch = epoch
            replica.state, replica.own = stack.state(row, "student."), stack.state(row, "objective.own.")
            replica.right = right[row].clone()


def _epoch(stack: Stack, epoch: int, on_step: Callable[[], None]) -> tuple[dict[str, Tensor], list[list[str]], Tensor]:
    """Train and measure; every figure by its metric's name, (S,), each row's culprits, and what is right, (S, N)."""
    trained, culprits = stack.train(epoch, on_step)
    validated, right = stack.validate()
    figures = {f"train/{name}": values for name, values in trained.items()}
    figures |= {f"val/{name}": values for name, values in validated.items()}
    return figures | {"val/accuracy": right.double().mean(dim=1)}, culprits, right


def _first(gone: list[str], figures: dict[str, float], terms: Sequence[Term]) -> list[str]:
    """What was the first not to be finite; of a weighted sum that alone was not, the term that is most of it."""
    gone = gone or [name for name, value in figures.items() if not isfinite(value)]
    if any(name.rpartition("/")[2] != "loss" for name in gone):
        return gone
    return [max(terms, key=lambda term: term.weight * abs(figures[f"train/{term.loss}"])).loss]


def _goes_on(replica: Replica, recipe: Recipe) -> bool:
    """Whether the best epoch is not yet as long ago as the recipe waits."""
    return recipe.patience is None or len(replica.history) - replica.epoch < recipe.patience


def _is_kept(replica: Replica, recipe: Recipe) -> bool:
    """Whether the epoch just done is, so far, the one whose weights the recipe selects."""
    if recipe.select == "last" or not replica.state:
        return True
    latest = replica.history[-1]["val/accuracy"]
    return latest > replica.figures["val/accuracy"]
