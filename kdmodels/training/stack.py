"""Several seeds of one distiller as one stacked computation."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import functional_call

from kdmodels.catalogue import LOSSES
from kdmodels.evaluation import BATCH
from kdmodels.experiment import Recipe
from kdmodels.losses import ContrastiveRepresentation
from kdmodels.networks import initialise
from kdmodels.networks.layers import Dropout
from kdmodels.networks.stacked import is_stackable
from kdmodels.randomness import forked, stream
from kdmodels.training import figures
from kdmodels.training.batches import Batch, Batches, batch_sizes, class_balance, order
from kdmodels.training.distiller import Distiller
from kdmodels.training.figures import Figures
from kdmodels.training.objective import first_row
from kdmodels.training.optimise import Optimizer, average, clipped, norms_and_biases
from kdmodels.training.replica import State
from kdmodels.training.schedule import learning_rate_factor

ADVERSARY = {"adam": {"lr": 1e-3, "betas": [0.5, 0.999]}}
"""The discriminator's own Adam, whatever the student's optimiser and schedule; momentum as in Radford et al. 2016."""


class Stack:
    """Replicas of some seeds: every parameter, buffer and optimiser's state has one row a replica.

    A replica's initial weights, batch order and draws are functions of its seed alone, and rows share no arithmetic.
    There is more than one only where the student `is_stackable`. Weights and batches are on the device; the splits and
    the knowledge stay where they are.

    Attributes:
        kept, kept_buffers: the parameters and buffers that are measured and kept: with `recipe.ema` their averages. The
            running statistics of batch norm belong to the weights: the last step's beside averaged weights cost up to
            two points of accuracy.
    """

    def __init__(
        self,
        distiller: Distiller,
        recipe: Recipe,
        train: Batches,
        validation: Batches,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        self.distiller, self.recipe, self.seeds, self.device = distiller, recipe, seeds, device
        self.terms, self.names = list(distiller.objective.terms.values()), distiller.objective.terms.keys()
        self.train_batches, self.validation_batches = train, validation
        self.params, self.buffers = _initial(distiller, seeds, device)
        distiller.to(device)
        self.kept, self.kept_buffers = self.params, self.buffers
        if recipe.ema:
            self.kept = {name: tensor.detach().clone() for name, tensor in self.params.items()}
            averaged = {name: tensor.clone() for name, tensor in self.buffers.items() if name.startswith("student.")}
            self.kept_buffers = {**self.buffers, **averaged}
        adversary = {name for name in self.params if name.startswith("objective.own.adversarial.")}
        undecayed = () if recipe.decay_norms else norms_and_biases(distiller)
        self.optimizer = Optimizer(recipe.optimizer, _part(self.params, self.params.keys() - adversary), undecayed)
        self.adversary = Optimizer(ADVERSARY, _part(self.params, adversary))
        self.drawn = {
            f"{name}.drawn": layer
            for name, layer in distiller.named_modules()
            if isinstance(layer, Dropout | ContrastiveRepresentation)
        }
        self.sizes = batch_sizes(len(train.split), recipe.batch)
        per_batch = any(LOSSES[name].per_batch for name in self.names)
        examples = len(validation.split)
        self.validation_sizes = batch_sizes(examples, recipe.batch if per_batch else BATCH)
        # Files are often in the order of their classes. Losses that compare examples need batches of mixed classes.
        shuffled = torch.randperm(examples, generator=stream(0, "validation order"))
        self.validation_order = shuffled if per_batch else torch.arange(examples)  # (N,)

        labels = train.split.labels
        sampled = recipe.balance == "sampling"
        self.chances = class_balance(labels)[labels].where(labels >= 0, 1.0) if sampled else None  # (N,)

        self.stacked = is_stackable(distiller.student)
        # Gradients are taken of these, which share the parameters' memory.
        self.leaves = {
            name: (tensor if self.stacked else tensor[0]).detach().requires_grad_()
            for name, tensor in self.params.items()
        }
        # Isolated: else all stacks of this process share one limit of recompilations, after which nothing is compiled.
        # Not dynamic: else what is compiled depends on the sizes of batches that this process has seen before.
        self._train_values = (
            torch.compile(self._values, dynamic=False, isolate_recompiles=True)  # type: ignore[call-overload]  # its stubs lack it
            if recipe.compile
            else self._values
        )

    def train(self, epoch: int, on_step: Callable[[], None]) -> tuple[Figures, list[list[str]]]:
        """One epoch, counted from 1; the mean over the examples of the loss and of every value, as it was trained.

        And of each row those values that were the first that were not finite; none where all always were.
        """
        self.distiller.train()
        examples = len(self.train_batches.split)
        orders = torch.stack([order(examples, seed, epoch, self.chances) for seed in self.seeds])  # (S, N)
        draws = {name: [stream(seed, name, epoch) for seed in self.seeds] for name in self.drawn}
        objective, batches = self.distiller.objective, len(self.sizes)
        steps, done = self.recipe.epochs * batches, (epoch - 1) * batches
        weights = figures.weights(self.terms, [(done + number + 0.5) / steps for number in range(batches)], self.device)
        beside = len(objective.names) - len(self.terms)  # the probe, the discriminator
        pulls = F.pad(weights, (0, beside), value=1.0).unsqueeze(2)  # (N, T, 1)
        # One tensor: many small ones would lie where larger ones of the next step do not fit any more, and memory grow.
        measured = torch.empty(batches, len(objective.names), len(self.seeds), device=self.device)
        for number, rows in enumerate(orders.split(self.sizes, dim=1)):  # (S, B)
            on_step()
            drawn = {name: _draw(layer, rows, draws[name]).to(self.device) for name, layer in self.drawn.items()}
            batch = self.train_batches.batch(rows.contiguous(), epoch)
            with self._chance(done + number):
                _, means = self._train_values(self.leaves, {**self.buffers, **drawn}, *_given(batch))
            values = torch.stack(list(means.values()))  # (T, S)
            gradients = self._gradients(values, pulls[number])
            measured[number] = values.detach()
            # The rate at the step's middle, so that no step of a warm-up or cosine is lost.
            passed = (done + number + 0.5) / batches
            rate = learning_rate_factor(self.recipe.schedule, passed, self.recipe.epochs)
            of_student = _part(gradients, self.optimizer.tensors)
            if self.recipe.clip:
                of_student = clipped(of_student, self.recipe.clip)
            self.optimizer.step(of_student, rate)
            self.adversary.step(_part(gradients, self.adversary.tensors), 1.0)
            if self.recipe.ema:
                average(self.kept, self.params, decay=self.recipe.ema, step=done + number)
                average(self.kept_buffers, self.buffers, decay=self.recipe.ema, step=done + number)
        every, names = figures.with_loss(measured, weights), ["loss", *objective.names]
        gone = [figures.first_gone(every[:, :, row], names) for row in range(len(self.seeds))]
        return dict(zip(names, figures.means(every, self.sizes), strict=True)), gone

    @torch.no_grad()
    def validate(self) -> tuple[Figures, Tensor]:
        """Measure the kept weights on the validation split, in float32, with the terms' weights after every warm-up.

        All examples count alike. There is no loss if a term has no value on examples that it was not trained on.
        Losses that compare the examples of a batch see them in a fixed random order, which is the same for all seeds.

        Returns:
            The same means as `train`, and which examples are classified correctly: (S, N), in the split's order.
        """
        self.distiller.eval()
        replicas, kept = len(self.seeds), self.kept if self.stacked else first_row(self.kept)
        measured, right = [], []
        for rows in self.validation_order.split(self.validation_sizes):
            batch = self.validation_batches.batch(rows)
            logits, means = self._values(kept, self.kept_buffers, *(_repeated(one, replicas) for one in _given(batch)))
            measured.append(torch.stack(list(means.values())) if means else logits.new_zeros(0, replicas))
            right.append(logits.argmax(dim=2) == batch.labels)
        every, names = torch.stack(measured), self.distiller.objective.names
        if names[: len(self.terms)] == list(self.names):
            weights = torch.tensor([[term.weight for term in self.terms]], device=self.device)
            every, names = figures.with_loss(every, weights), ["loss", *names]
        means = dict(zip(names, figures.means(every, self.validation_sizes), strict=True))
        return means, torch.cat(right, dim=1).cpu()[:, self.validation_order.argsort()]

    def state(self, row: int, part: str) -> State:
        """A copy of one replica's part, on the CPU: `student.`, or what its objective has of its `objective.own.`"""
        return {
            name.removeprefix(part): tensor[row].detach().to("cpu", copy=True)
            for name, tensor in {**self.kept, **self.kept_buffers}.items()
            if name.startswith(part)
        }

    def snapshot(self) -> State:
        """A copy, on the CPU, of all that steps change."""
        parts = [(role, optimizer.remembered()) for role, optimizer in self._optimizers.items()]
        every = self._weights() | {f"{role}{name}": tensor for role, own in parts for name, tensor in own.items()}
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in every.items()}

    def restore(self, snapshot: State) -> None:
        """Go on from a `snapshot` of a stack of the same seeds and recipe."""
        for name, tensor in self._weights().items():
            tensor.detach().copy_(snapshot[name])
        for role, optimizer in self._optimizers.items():
            optimizer.restore({name.removeprefix(role): own for name, own in snapshot.items() if name.startswith(role)})

    @property
    def _optimizers(self) -> dict[str, Optimizer]:
        return {"optimizer/": self.optimizer, "adversary/": self.adversary}

    def _weights(self) -> State:
        """Parameters and buffers, and their averages."""
        parts = {"params/": self.params, "buffers/": self.buffers}
        if self.recipe.ema:
            parts |= {"kept/": self.kept, "kept buffers/": self.kept_buffers}
        return {f"{part}{name}": tensor for part, own in parts.items() for name, tensor in own.items()}

    def _values(self, params: State, buffers: State, *given: Tensor | State) -> tuple[Tensor, Figures]:
        """The logits (S, B, K), and the mean of every value; of a student that is not stackable its one row's params.

        A single row goes without `torch.func.vmap`, under which a convolution's step takes 1.4 times as long.
        """
        if self.stacked:
            return self.distiller.stacked({**params, **buffers}, *given)  # type: ignore[arg-type]
        logits, values = functional_call(self.distiller, {**params, **first_row(buffers)}, tuple(map(first_row, given)))
        return logits[None], {name: value.mean()[None] for name, value in values.items()}

    def _gradients(self, values: Tensor, pulls: Tensor) -> State:
        """Of values (T, S), weighed by `pulls` (T, 1), by the names of the parameters that they reach: (S, ...)."""
        leaves, weighed = list(self.leaves.values()), pulls.expand_as(values)
        gradients = torch.autograd.grad(values, leaves, weighed, allow_unused=True)
        found = {name: tensor for name, tensor in zip(self.leaves, gradients, strict=True) if tensor is not None}
        return found if self.stacked else {name: tensor[None] for name, tensor in found.items()}

    def _chance(self, step: int) -> AbstractContextManager[None]:
        """Where the network draws from torch's own generator: the beginning of a stream for this seed and step."""
        if not self.distiller.draws:
            return nullcontext()
        return forked(stream(self.seeds[0], "step", step), self.device)


def _initial(distiller: Distiller, seeds: Sequence[int], device: torch.device) -> tuple[State, State]:
    """Each replica's initial parameters and persistent buffers, stacked along a new first dimension, on the device."""
    fresh = deepcopy(distiller).cpu()  # whose generators all draw
    persistent = fresh.state_dict().keys()
    rows: list[tuple[State, State]] = []
    for seed in seeds:
        initialise(fresh.student, stream(seed, "student"))
        initialise(fresh.objective, stream(seed, "own"))
        params = {name: tensor.detach().clone() for name, tensor in fresh.named_parameters()}
        buffers = {name: tensor.clone() for name, tensor in fresh.named_buffers() if name in persistent}
        rows.append((params, buffers))
    params, buffers = (
        {name: torch.stack([row[part][name] for row in rows]).to(device) for name in rows[0][part]} for part in (0, 1)
    )
    return params, buffers


def _part(tensors: State, names: Collection[str]) -> State:
    return {name: tensor for name, tensor in tensors.items() if name in names}


def _given(batch: Batch) -> tuple[Tensor, Tensor, State, Tensor, State]:
    """A batch as `Distiller.forward` takes it."""
    return batch.images, batch.labels, batch.teacher, batch.rows, batch.mixed


def _repeated(given: Any, count: int) -> Any:
    """A tensor, or each of a mapping's, as so many equal rows, which take no memory."""
    if isinstance(given, dict):
        return {name: _repeated(tensor, count) for name, tensor in given.items()}
    return given.expand(count, *given.shape)


def _draw(layer: torch.nn.Module, rows: Tensor, generators: Sequence[Generator]) -> Tensor:
    """What a layer needs of chance in this step, each replica's from its own generator: (S, ...)."""
    return torch.stack([layer.draw(own, generator) for own, generator in zip(rows, generators, strict=True)])  # type: ignore[operator]
