"""The function that trains a network with a recipe and an objective. Each seed gives one replica of the network."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from math import isfinite

import torch
from torch import Tensor, nn

from kdmodels.data.augment import NONE, Augmentation
from kdmodels.data.split import Split
from kdmodels.device import CPU, out_of_memory_as_user_error
from kdmodels.errors import UserError
from kdmodels.experiment import Recipe
from kdmodels.experiment.terms import Calibrated, Term
from kdmodels.knowledge import Knowledge, LiveTeacher
from kdmodels.training.batches import Batches
from kdmodels.training.calibration import Calibration, calibrate
from kdmodels.training.checkpoints import Checkpoints
from kdmodels.training.compile_errors import compile_errors_as_user_errors
from kdmodels.training.distiller import Distiller
from kdmodels.training.replica import Replica
from kdmodels.training.setting import Setting, setting_of
from kdmodels.training.stack import Stack

ACCURACY = "val/accuracy"

TeacherOutputs = tuple[Knowledge | Sequence[Knowledge] | LiveTeacher, Knowledge | LiveTeacher]
"""The teacher's outputs for the training split, and for the validation split.

A view is an augmented version of the training split. If there are several views, the outputs for the training split are
a sequence with one item per view.
"""


def fit(  # noqa: PLR0913 - the entry point of the library; all but six have defaults
    network: nn.Module,
    terms: Sequence[Term],
    recipe: Recipe,
    train: Split,
    validation: Split,
    *,
    seeds: Sequence[int],
    knowledge: TeacherOutputs | None = None,
    augmentation: Augmentation = NONE,
    settings: Sequence[Setting] | None = None,
    examples: Tensor | None = None,
    device: torch.device = CPU,
    on_step: Callable[[], None] = lambda: None,
    on_epoch: Callable[[int, list[Replica]], None] = lambda epoch, replicas: None,
    on_calibration: Callable[[Calibration], None] | None = None,
    checkpoints: Checkpoints | None = None,
    validate_every: int = 1,
) -> list[Replica]:
    """Train a network once per seed. Each seed gives a replica: a trained network with its metrics.

    Replicas of a stackable network (see `is_stackable`) are trained together in one computation. Replicas of other
    networks are trained one after the other. The initial weights, the batch order and the dropout of a replica depend
    only on its seed, and not on the objective. Two replicas with the same seed and different objectives can therefore
    be compared as a pair. A replica that diverges does not affect other replicas, because replicas are computed
    independently.

    Replicas are validated after every `validate_every`-th epoch and after the last epoch. Other epochs have no
    validation metrics. If `recipe.ema` is set, the averaged weights are validated and returned. If `recipe.select` is
    `best-validation`, the result has the weights of the best validated epoch. Otherwise, it has the weights of the last
    epoch.

    If `recipe.patience` is set, each replica stops on its own. Its result then stays unchanged. The patience counts all
    epochs, but a replica stops only after a validated epoch. The batches of an epoch have nearly equal sizes; see
    `batch_sizes`.

    Args:
        network: Network whose structure and pretrained weights are used. The network is not changed.
        terms: Terms of the objective. The weight of a term multiplies its mean over the batch. Weights that are not
            numbers are calibrated first, see `kdmodels.training.calibration`.
        recipe: Settings of the training.
        train, validation: The training split and the validation split, with images in [0, 1]. Losses on labels leave
            out images whose label is unknown (-1). If `recipe.select` is `best-validation`, the validation split
            selects the epoch.
        seeds: Seeds of the replicas. Seeds can be equal if the replicas have different settings.
        knowledge: The teacher's outputs for `train` and for `validation`, see `TeacherOutputs`. Terms on logits or
            features need these outputs. A `LiveTeacher` computes the outputs for every batch. Its device must be
            `device`.
        augmentation: Augmentation of `train`, the same for all seeds.
        settings: Setting of each replica. If None, all replicas have the learning rate of `recipe` and the weights and
            hyperparameters of `terms`.
        examples: Indices of the examples of `train` that are used. If None, all examples are used.
        device: Device of the computation. Random draws are the same on all devices, except draws from torch's global
            generator by networks of other libraries.
        on_step: Function that is called before every step. An exception in this function ends the training.
        on_epoch: Function that is called after every epoch. Its arguments are the number of the epoch, counted from 1,
            and the replicas at this epoch.
        on_calibration: Function that is called before the training. Its argument holds the weights of the terms and the
            sizes of their gradients. If None, gradients are measured only if a weight must be calibrated.
        checkpoints: Checkpoints from which to resume, and to which new checkpoints are added. On the CPU, with the same
            number of threads, a resumed run gives the same result, bit for bit, as an uninterrupted run.
        validate_every: Number of epochs from one validation to the next.

    Returns:
        One replica per seed, in the order of the seeds.

    Raises:
        UserError: One of these conditions holds:

            - The features of a term do not exist or do not match.
            - A term needs the teacher's outputs, and `knowledge` is None.
            - A term trains no parameter of the network.
            - The weight of a term is to be calibrated, and the term has no gradient at the start.
            - The batch size is 1, and the network has batch norm.
            - The batch size is 1, and a loss compares examples.
            - `knowledge` and `augmentation` have different numbers of views.
            - Memory runs out, or compilation fails.
    """
    _require_knowledge(terms, knowledge)
    input_shape = tuple(train.pixels.shape[1:])
    shapes = {} if knowledge is None else knowledge[1].shapes(input_shape)
    of_train, of_validation = _batches(train, validation, knowledge, augmentation, device)
    of_train = replace(of_train, rows=examples)
    replicas_at_once = {"trials" if settings else "seeds": len(seeds)}
    calibration = partial(calibrate, network, recipe=recipe, batches=of_train, teacher_shapes=shapes)
    if settings:
        settings = _with_numbers(calibration, settings, None)
    else:
        settings = _with_numbers(calibration, [setting_of(recipe, terms)], on_calibration) * len(seeds)

    def distiller_for(terms: Sequence[Term]) -> Distiller:
        return Distiller(
            deepcopy(network),
            terms,
            recipe,
            input_shape=input_shape,
            teacher_shapes=shapes,
            labels=train.labels,
        )

    replicas = [Replica(seed) for seed in seeds]
    places = {"at": ", ".join(shapes)} if shapes else {}
    with (
        out_of_memory_as_user_error({"batch": recipe.batch, **replicas_at_once, **places}),
        compile_errors_as_user_errors(recipe.compile),
    ):
        stacks = _stacks(distiller_for, recipe, (of_train, of_validation), seeds, settings, device)
        rows = [(stack, row) for stack in stacks for row in range(len(stack.seeds))]
        snapshot = checkpoints.latest() if checkpoints else None
        if snapshot:
            replicas = snapshot.replicas
            for stack, state in zip(stacks, snapshot.stacks, strict=True):
                stack.restore(state)
        try:
            for epoch in range(snapshot.epoch + 1 if snapshot else 1, recipe.epochs + 1):
                if all(_is_finished(replica, recipe) for replica in replicas):
                    break
                is_validated = epoch % validate_every == 0 or epoch == recipe.epochs
                _advance(epoch, list(zip(replicas, rows, strict=True)), recipe, on_step, is_validated=is_validated)
                if checkpoints:
                    checkpoints.keep(epoch, replicas, [stack.snapshot() for stack in stacks])
                on_epoch(epoch, replicas)
        except BaseException as error:  # write the last finished epoch before the exception ends the training
            if checkpoints:
                checkpoints.flush(is_interrupted=not isinstance(error, Exception))
            raise
    return replicas


def _with_numbers(
    calibration: Callable[[Sequence[Sequence[Term]]], list[Calibration]],
    settings: Sequence[Setting],
    on_calibration: Callable[[Calibration], None] | None,
) -> list[Setting]:
    """Return the settings with a calibrated number in place of each weight `auto`.

    `calibration` is called only if a term has such a weight or `on_calibration` is given.

    Args:
        calibration: Function that takes the terms of each setting and returns one calibration per setting.
        settings: The settings.
        on_calibration: Function that is called with each calibration. `None` if no such function is called.
    """
    objectives = [setting.terms for setting in settings]
    is_needed = any(isinstance(term.weight, Calibrated) for terms in objectives for term in terms)
    if on_calibration is None and not is_needed:
        return list(settings)
    calibrations = calibration(objectives)
    if on_calibration:
        for calibrated in calibrations:
            on_calibration(calibrated)
    return [
        replace(setting, terms=tuple(calibrated.terms))
        for setting, calibrated in zip(settings, calibrations, strict=True)
    ]


def _require_knowledge(terms: Sequence[Term], knowledge: TeacherOutputs | None) -> None:
    for term in terms:
        if knowledge is None and term.row.needs != "labels":
            raise UserError(
                f"{term.loss}: compares with a teacher, but `knowledge` is None. Allowed: knowledge of both splits"
            )


def _batches(
    train: Split, validation: Split, knowledge: TeacherOutputs | None, augmentation: Augmentation, device: torch.device
) -> tuple[Batches, Batches]:
    if knowledge is None:
        return Batches(train, None, augmentation, device), Batches(validation, device=device)
    of_train, of_validation = ([part] if isinstance(part, Knowledge) else part for part in knowledge)
    if not isinstance(of_train, LiveTeacher):
        views = augmentation.views if augmentation.operations else 1
        if len(of_train) != views:
            raise UserError(f"knowledge of {len(of_train)} views does not fit an augmentation of {views}")
    return Batches(train, of_train, augmentation, device), Batches(validation, of_validation, device=device)


def _stacks(
    distiller_for: Callable[[Sequence[Term]], Distiller],
    recipe: Recipe,
    batches: tuple[Batches, Batches],
    seeds: Sequence[int],
    settings: Sequence[Setting],
    device: torch.device,
) -> list[Stack]:
    """Return one stack of all replicas if the distiller is stackable. Otherwise, return one stack per replica.

    A stack holds replicas that are trained in one computation.

    Args:
        distiller_for: Function that builds a distiller with given terms.
        batches: Batches of the training split, and of the validation split.
        settings: Setting of each replica.
    """
    first = distiller_for(settings[0].terms)
    if first.stackable:
        return [Stack(first, recipe, batches, seeds, device, settings)]
    distillers = [first if one.terms == settings[0].terms else distiller_for(one.terms) for one in settings]
    return [
        Stack(distiller, recipe, batches, [seed], device, [setting])
        for distiller, seed, setting in zip(distillers, seeds, settings, strict=True)
    ]


def _advance(
    epoch: int,
    pairs: list[tuple[Replica, tuple[Stack, int]]],
    recipe: Recipe,
    on_step: Callable[[], None],
    *,
    is_validated: bool,
) -> None:
    """Train one epoch of every replica that has not stopped. Update the replicas in place.

    Args:
        epoch: Number of the epoch, counted from 1.
        pairs: Each replica, with its stack and the index of its row in this stack.
        recipe: Settings of the training.
        on_step: Function that is called before every step.
        is_validated: Whether the replicas are validated after the epoch.
    """
    active = [(replica, *row) for replica, row in pairs if _continues(replica, recipe)]
    stacks = dict.fromkeys(stack for _, stack, _ in active)
    measured = {stack: _epoch(stack, epoch, on_step, is_validated=is_validated) for stack in stacks}
    for replica, stack, row in active:
        every, culprits, is_correct = measured[stack]
        figures = {name: values[row].item() for name, values in every.items()}
        replica.history.append(figures)
        if replica.diverged is None and not all(map(isfinite, figures.values())):
            replica.diverged = epoch
            replica.culprits = _culprits(culprits[row], figures, stack.settings[row].terms)
        if _is_kept(replica, recipe):
            replica.epoch = epoch
            replica.state, replica.own = stack.state(row, "student."), stack.state(row, "objective.own.")
            if is_correct is not None:
                replica.is_correct = is_correct[row].clone()


def _epoch(
    stack: Stack, epoch: int, on_step: Callable[[], None], *, is_validated: bool
) -> tuple[dict[str, Tensor], list[list[str]], Tensor | None]:
    """Train one epoch of a stack. If `is_validated` is true, validate its replicas after the epoch.

    Returns:
        Three results:

        - The metrics (S,) of the S replicas, by name.
        - For each replica, the names of the values that were the first to be infinite or NaN.
        - Whether each validation example is classified correctly, (S, N). `None` if the replicas were not validated.
    """
    trained, culprits = stack.train(epoch, on_step)
    figures = {f"train/{name}": values for name, values in trained.items()}
    if not is_validated:
        return figures, culprits, None
    validated, is_correct = stack.validate()
    figures |= {f"val/{name}": values for name, values in validated.items()}
    return figures | {ACCURACY: is_correct.double().mean(dim=1)}, culprits, is_correct


def _culprits(names: list[str], figures: dict[str, float], terms: Sequence[Term]) -> list[str]:
    """Return the names of the values that explain why a replica diverged.

    Usually, the result is `names`. If only the loss, the weighted sum of the terms, was infinite or NaN, the result is
    the name of the term with the largest weighted value.

    Args:
        names: Names of the values that were the first to be infinite or NaN in training. If the list is empty, the
            metrics that are infinite or NaN are used.
        figures: Metrics of the epoch, by name.
        terms: Terms of the objective.
    """
    names = names or [name for name, value in figures.items() if not isfinite(value)]
    if any(name.rpartition("/")[2] != "loss" for name in names):
        return names
    return [max(terms, key=lambda term: term.factor * abs(figures[f"train/{term.loss}"])).loss]


def _is_finished(replica: Replica, recipe: Recipe) -> bool:
    """Return whether a replica needs no more training, because it has diverged or stopped.

    A diverged replica is finished only after an epoch that was validated, so that its last metrics are complete.
    """
    return (replica.diverged is not None and _is_validated(replica)) or not _continues(replica, recipe)


def _continues(replica: Replica, recipe: Recipe) -> bool:
    """Return whether the training of a replica continues.

    The training stops after a validated epoch that is at least `recipe.patience` epochs after the best epoch.
    """
    if recipe.patience is None or not _is_validated(replica):
        return True
    return len(replica.history) - replica.epoch < recipe.patience


def _is_validated(replica: Replica) -> bool:
    """Return whether a replica was validated after its latest epoch."""
    return bool(replica.history) and ACCURACY in replica.history[-1]


def _is_kept(replica: Replica, recipe: Recipe) -> bool:
    """Return whether the weights of the latest epoch become the replica's result."""
    if recipe.select == "last":
        return True
    if not _is_validated(replica):
        return False
    return not replica.state or replica.history[-1][ACCURACY] > replica.figures[ACCURACY]
