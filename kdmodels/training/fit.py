"""Training several seeds of one network as one stacked computation."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.lr_scheduler import LambdaLR

from kdmodels.data.dataset import Split
from kdmodels.errors import UserError
from kdmodels.evaluation import BATCH
from kdmodels.experiment import Recipe, Term
from kdmodels.knowledge import LOGITS, Knowledge
from kdmodels.networks import initialise
from kdmodels.networks.initialise import BATCH_NORMS
from kdmodels.networks.layers import Dropout
from kdmodels.objectives import LOSSES
from kdmodels.randomness import stream
from kdmodels.training.distiller import Distiller
from kdmodels.training.schedule import learning_rate_factor, make_optimizer

State = dict[str, Tensor]


@dataclass
class Replica:
    """One seed of one network.

    `history` holds each epoch's figures, first epoch first; `state` the network's weights after epoch `epoch`
    (counted from 1). `diverged` is the first epoch with a figure that is not finite, and None where there is none.
    """

    seed: int
    history: list[dict[str, float]] = field(default_factory=list)
    state: State = field(default_factory=dict)
    epoch: int = 0
    diverged: int | None = None

    @property
    def figures(self) -> dict[str, float]:
        """The figures of the epoch whose weights are kept."""
        return self.history[self.epoch - 1]


def fit(
    network: nn.Module,
    terms: Sequence[Term],
    recipe: Recipe,
    train: Split,
    validation: Split,
    *,
    seeds: Sequence[int],
    knowledge: tuple[Knowledge, Knowledge] | None = None,
    on_step: Callable[[], None] = lambda: None,
    on_epoch: Callable[[int, list[Replica]], None] = lambda epoch, replicas: None,
) -> list[Replica]:
    """Train one replica a seed, all stacked into one computation.

    A replica's initial weights, batch order and dropout are functions of its seed alone, and the same in every
    objective, so that two variants' replicas of one seed form a pair. Replicas share no arithmetic: one that
    diverges leaves the others as they are.

    Args:
        network: only its structure is used; its weights are neither read nor changed.
        terms: the objective; a term's weight multiplies its batch mean.
        train, validation: images in [0, 1]. `validation` is only measured, and read to choose the epoch when
            `recipe.select` is `best-validation`.
        knowledge: the teacher's, on `train` and on `validation`; needed by terms on logits and features.
        on_step: called before every step; what it raises ends the training.
        on_epoch: called after every epoch with its number, counted from 1, and the replicas so far.

    A last batch of one example joins the batch before it, since batch norm can't learn from one.

    Raises:
        UserError: a term's features do not exist or do not match, it needs a teacher's knowledge and there is none, or
            a batch of one meets batch norm.
    """
    for term in terms:
        if knowledge is None and LOSSES[term.loss].needs != "labels":
            raise UserError(f"{term.loss} compares with a teacher; give `knowledge`, its own on both splits")
    shapes = {} if knowledge is None else {at: tuple(f.shape[1:]) for at, f in knowledge[0].features.items()}
    distiller = Distiller(deepcopy(network), terms, tuple(train.images.shape[1:]), shapes)
    params, buffers = _stacked(distiller, seeds)
    optimizer = make_optimizer(recipe.optimizer, params.values())
    if recipe.batch == 1 and any(isinstance(module, BATCH_NORMS) for module in distiller.modules()):
        raise UserError("batch: 1: batch norm can't learn from one example; allowed: 2 or more")
    sizes = _batch_sizes(len(train), recipe.batch)
    steps = len(sizes)

    def factor(step: int) -> float:  # at the step's middle, so that neither warm-up nor cosine has a step that is lost
        return learning_rate_factor(recipe.schedule, (step + 0.5) / steps, recipe.epochs)

    schedule = LambdaLR(optimizer, factor)
    weights = {name: term.weight for name, term in distiller.terms.items()}
    masks = {f"{name}.keep": layer for name, layer in distiller.named_modules() if isinstance(layer, Dropout)}

    def values(params: State, buffers: State, images: Tensor, labels: Tensor, teacher: State) -> tuple[Tensor, State]:
        logits, terms_values = functional_call(distiller, {**params, **buffers}, (images, labels, teacher))
        return logits, {name: value.mean() for name, value in terms_values.items()}

    # One replica a row; the validation batches are the same for all of them.
    stacked_train = vmap(values, in_dims=(0, 0, 0, 0, 0))
    stacked_validation = vmap(values, in_dims=(0, 0, None, None, None))

    replicas = [Replica(seed) for seed in seeds]
    for epoch in range(1, recipe.epochs + 1):
        distiller.train()
        orders = torch.stack([_order(len(train), seed, epoch) for seed in seeds])  # (S, N)
        draws = [stream(seed, "dropout", epoch) for seed in seeds]
        totals = torch.zeros(1 + len(weights), len(seeds))
        for rows in orders.split(sizes, dim=1):  # (S, B)
            on_step()
            optimizer.zero_grad()
            keep = {name: _keep(layer, draws, rows.shape[1]) for name, layer in masks.items()}
            _, means = stacked_train(
                params, {**buffers, **keep}, train.images[rows], train.labels[rows], _teacher(knowledge, 0, rows)
            )
            loss = _weighted(means, weights)  # (S,)
            loss.sum().backward()
            optimizer.step()
            schedule.step()
            totals += torch.stack([loss, *means.values()]).detach() * rows.shape[1]
        train_figures = totals / len(train)  # (1 + terms, S)
        distiller.eval()
        with torch.no_grad():
            totals, hits = torch.zeros(1 + len(weights), len(seeds)), torch.zeros(len(seeds), dtype=torch.int64)
            for rows in torch.arange(len(validation)).split(BATCH):
                labels = validation.labels[rows]
                logits, means = stacked_validation(
                    params, buffers, validation.images[rows], labels, _teacher(knowledge, 1, rows)
                )
                totals += torch.stack([_weighted(means, weights), *means.values()]) * len(rows)
                hits += (logits.argmax(dim=2) == labels).sum(dim=1)
        validation_figures = totals / len(validation)
        names = ["loss", *weights]
        for i, replica in enumerate(replicas):
            figures = {f"train/{name}": row[i].item() for name, row in zip(names, train_figures, strict=True)}
            figures |= {f"val/{name}": row[i].item() for name, row in zip(names, validation_figures, strict=True)}
            figures["val/accuracy"] = int(hits[i]) / len(validation)
            replica.history.append(figures)
            if replica.diverged is None and not all(map(isfinite, figures.values())):
                replica.diverged = epoch
            if _is_kept(replica, recipe):
                replica.epoch, replica.state = epoch, _student_state({**params, **buffers}, i)
        on_epoch(epoch, replicas)
        if all(replica.diverged for replica in replicas):
            break
    return replicas


def _stacked(distiller: Distiller, seeds: Sequence[int]) -> tuple[State, State]:
    """Each replica's initial parameters and persistent buffers, stacked along a new first dimension."""
    persistent = distiller.state_dict().keys()
    rows: list[tuple[State, State]] = []
    for seed in seeds:
        initialise(distiller.student, stream(seed, "student"))
        initialise(distiller.regressors, stream(seed, "regressors"))
        params = {name: tensor.detach().clone() for name, tensor in distiller.named_parameters()}
        buffers = {name: tensor.clone() for name, tensor in distiller.named_buffers() if name in persistent}
        rows.append((params, buffers))
    params, buffers = (
        {name: torch.stack([row[part][name] for row in rows]) for name in rows[0][part]} for part in (0, 1)
    )
    return {name: tensor.requires_grad_() for name, tensor in params.items()}, buffers


def _batch_sizes(examples: int, batch: int) -> list[int]:
    """The sizes of an epoch's batches, the last partial one included.

    >>> _batch_sizes(10, 4), _batch_sizes(9, 4), _batch_sizes(3, 1)
    ([4, 4, 2], [4, 5], [1, 1, 1])
    """
    whole, rest = divmod(examples, batch)
    sizes = [batch] * whole + [rest] * (rest > 0)
    if rest == 1 and whole:
        sizes[-2:] = [batch + 1]
    return sizes


def _order(examples: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(examples, generator=stream(seed, "order", epoch))


def _keep(layer: Dropout, draws: Sequence[Generator], batch: int) -> Tensor:
    """The step's dropout mask (S, B, width), each replica's from its own generator."""
    uniform = torch.stack([torch.rand(batch, layer.width, generator=generator) for generator in draws])
    return (uniform >= layer.p).float()


def _teacher(knowledge: tuple[Knowledge, Knowledge] | None, split: int, rows: Tensor) -> State:
    if knowledge is None:
        return {}
    part = knowledge[split]
    return {name: values[rows].float() for name, values in {LOGITS: part.logits, **part.features}.items()}


def _weighted(means: State, weights: dict[str, float]) -> Tensor:
    return torch.stack([weight * means[name] for name, weight in weights.items()]).sum(dim=0)  # (S,)


def _is_kept(replica: Replica, recipe: Recipe) -> bool:
    """Whether the epoch just done is, so far, the one whose weights the recipe selects."""
    if recipe.select == "last" or not replica.state:
        return True
    latest = replica.history[-1]["val/accuracy"]
    return latest > replica.figures["val/accuracy"]


def _student_state(stacked: State, i: int) -> State:
    prefix = "student."
    return {
        name.removeprefix(prefix): tensor[i].detach().clone()
        for name, tensor in stacked.items()
        if name.startswith(prefix)
    }
