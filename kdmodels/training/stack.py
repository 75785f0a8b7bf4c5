"""The training of several replicas, one per seed, in one computation on stacked tensors."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import functional_call

from kdmodels.evaluation.predictions import BATCH
from kdmodels.experiment import Recipe
from kdmodels.networks import initialise
from kdmodels.randomness import StepRandomness, generator_for, isolated_rng
from kdmodels.training import metrics as figures
from kdmodels.training.batches import Batch, Batches, batch_sizes, class_balance, order
from kdmodels.training.distiller import Distiller
from kdmodels.training.metrics import Figures
from kdmodels.training.objective import first_row, own_name
from kdmodels.training.optimizers import (
    Optimizer,
    RowOptimizers,
    average,
    clipped,
    limit_norms,
    norms_and_biases,
    row_optimizers,
    weights_of_units,
)
from kdmodels.training.replica import State
from kdmodels.training.schedule import learning_rate_factor
from kdmodels.training.setting import Setting, setting_of, varied

ADVERSARY = {"adam": {"lr": 1e-3, "betas": [0.5, 0.999]}}
"""The optimizer of a module that is trained against the student, such as a discriminator.

This optimizer does not depend on the student's recipe. The momentum, 0.5, is from Radford et al. 2016.
"""


class Stack:
    """Replicas that are trained together. Every parameter, buffer and optimizer state has one row per replica.

    Replicas can differ in their learning rate, and in the weights and hyperparameters of their terms. The initial
    weights, batch order and random draws of a replica depend only on its seed. The rows are computed independently. If
    the student is not stackable (see `is_stackable`), the stack has a single row. The stack moves weights and batches
    to the device. The splits and the stored outputs of the teacher stay where they are.

    Args:
        distiller: The student and its objective.
        recipe: Settings of the training.
        batches: Batches of the training split, and of the validation split.
        seeds: Seed of each replica.
        device: Device of the computation.
        settings: Setting of each replica. If None, all replicas have the recipe's learning rate and the distiller's
            terms.

    Attributes:
        limited: The student's weights whose norm is limited, if `recipe.max_norm` is set.
        kept, kept_buffers: Parameters and buffers that are validated and stored. If `recipe.ema` is set, both are
            averages over the steps, including the running statistics of batch norm. If averaged weights were used with
            the statistics of the last step, the accuracy would be up to 2 percentage points lower.
    """

    def __init__(
        self,
        distiller: Distiller,
        recipe: Recipe,
        batches: tuple[Batches, Batches],
        seeds: Sequence[int],
        device: torch.device,
        settings: Sequence[Setting] | None = None,
    ) -> None:
        self.distiller, self.recipe, self.seeds, self.device = distiller, recipe, seeds, device
        self.names = distiller.objective.terms.keys()
        self.settings = settings or [setting_of(recipe, list(distiller.objective.terms.values()))] * len(seeds)
        self.train_batches, self.validation_batches = train, validation = batches
        numbers = distiller.objective.vary(varied(self.settings))
        self.params, self.buffers = _initial(distiller, recipe, seeds, device)
        self.buffers |= {f"objective.{name}": values.to(device) for name, values in numbers.items()}
        distiller.to(device)
        self.kept, self.kept_buffers = self.params, self.buffers
        if recipe.ema:
            self.kept = {name: tensor.detach().clone() for name, tensor in self.params.items()}
            averaged = {name: tensor.clone() for name, tensor in self.buffers.items() if name.startswith("student.")}
            self.kept_buffers = {**self.buffers, **averaged}
        opponents = tuple(f"objective.own.{own_name(name)}." for name in distiller.objective.opponents.values())
        adversary = {name for name in self.params if name.startswith(opponents)}
        undecayed = () if recipe.decay_norms else norms_and_biases(distiller)
        rates, trained = [setting.lr for setting in self.settings], _part(self.params, self.params.keys() - adversary)
        self.optimizer = row_optimizers(recipe.optimizer, trained, undecayed, rates)
        units = {f"student.{name}" for name in weights_of_units(distiller.student)} if recipe.max_norm else set()
        self.limited = _part(self.params, units)
        self.adversary = Optimizer(ADVERSARY, _part(self.params, adversary))
        self.drawn = {
            f"{name}.drawn": layer for name, layer in distiller.named_modules() if isinstance(layer, StepRandomness)
        }
        self.examples = train.examples  # (N,)
        self.sizes = batch_sizes(len(self.examples), recipe.batch)
        per_batch = any(loss.per_batch for loss in distiller.objective.losses.values())
        examples = len(validation.split)
        self.validation_sizes = batch_sizes(examples, recipe.batch if per_batch else BATCH)
        # Data sets are often sorted by class, but losses that compare examples need batches of mixed classes.
        shuffled = torch.randperm(examples, generator=generator_for(0, "validation order"))
        self.validation_order = shuffled if per_batch else torch.arange(examples)  # (N,)

        labels = train.split.labels
        sampled = recipe.balance == "sampling"
        chances = class_balance(labels)[labels].where(labels >= 0, 1.0) if sampled else None
        self.chances = chances[self.examples] if chances is not None else None  # (N,)

        self.stacked = distiller.stackable
        # Gradients are computed for these tensors, which share the parameters' memory.
        self.leaves = {
            name: (tensor if self.stacked else tensor[0]).detach().requires_grad_()
            for name, tensor in self.params.items()
        }
        # Without `isolate_recompiles`, all stacks of a process would share one limit of recompilations. With dynamic
        # shapes, the compiled code would depend on the batch sizes of earlier stacks in the process.
        self._train_values = (
            torch.compile(self.values, dynamic=False, isolate_recompiles=True)  # type: ignore[call-overload]  # missing in torch's stubs
            if recipe.compile
            else self.values
        )

    def train(self, epoch: int, on_step: Callable[[], None]) -> tuple[Figures, list[list[str]]]:
        """Train one epoch.

        Args:
            epoch: Number of the epoch, counted from 1.
            on_step: Function that is called before every step.

        Returns:
            Two results:

            - The loss and each value of the objective, by name: the means over the examples of the epoch, (S,), as
              measured during training.
            - For each replica, the names of the values that were the first to be infinite or NaN.
        """
        self.distiller.train()
        orders = [self.examples[order(len(self.examples), seed, epoch, self.chances)] for seed in self.seeds]
        draws = self.generators(epoch)
        objective, batches = self.distiller.objective, len(self.sizes)
        steps, done = self.recipe.epochs * batches, (epoch - 1) * batches
        shares = [(done + number + 0.5) / steps for number in range(batches)]
        weights = figures.weights([setting.terms for setting in self.settings], shares, self.device)  # (N, W, S)
        unweighted = len(objective.names) - len(self.names)  # the probe and opponents
        grad_outputs = F.pad(weights, (0, 0, 0, unweighted), value=1.0)  # (N, T, S)
        # Allocate one tensor, because many small tensors would fragment the memory and increase its use.
        measured = torch.empty(batches, len(objective.names), len(self.seeds), device=self.device)
        for number, rows in enumerate(torch.stack(orders).split(self.sizes, dim=1)):  # (S, B)
            on_step()
            values = torch.stack(list(self.train_values(rows, epoch, done + number, draws).values()))  # (T, S)
            gradients = self._gradients(values, grad_outputs[number])
            measured[number] = values.detach()
            # Use the factor in the middle of the step, so that no step of a warm-up or cosine has a rate of 0.
            epochs_done = (done + number + 0.5) / batches
            rate = learning_rate_factor(self.recipe.schedule, epochs_done, self.recipe.epochs)
            of_student = _part(gradients, self.optimizer.tensors)
            if self.recipe.clip:
                of_student = clipped(of_student, self.recipe.clip)
            self.optimizer.step(of_student, rate)
            self.adversary.step(_part(gradients, self.adversary.tensors), 1.0)
            if self.recipe.max_norm:
                limit_norms(_part(self.limited, gradients), self.recipe.max_norm)
            if self.recipe.ema:
                average(self.kept, self.params, decay=self.recipe.ema, step=done + number)
                average(self.kept_buffers, self.buffers, decay=self.recipe.ema, step=done + number)
        every, names = figures.with_loss(measured, weights), ["loss", *objective.names]
        culprits = [figures.first_nonfinite(every[:, :, row], names) for row in range(len(self.seeds))]
        return dict(zip(names, figures.means(every, self.sizes), strict=True)), culprits

    def generators(self, epoch: int) -> dict[str, list[Generator]]:
        """Return the random generators of an epoch: one per replica, by the name of the layer that uses them."""
        return {name: [generator_for(seed, name, epoch) for seed in self.seeds] for name in self.drawn}

    def train_values(
        self, rows: Tensor, epoch: int, step: int, draws: Mapping[str, Sequence[Generator]]
    ) -> dict[str, Tensor]:
        """Run the student in training mode on a batch. Return the mean (S,) of each value of the objective, by name.

        The means belong to the autograd graph, so that gradients can be computed from them.

        Args:
            rows: Indices of the examples of each replica, (S, B).
            epoch: Number of the epoch, counted from 1.
            step: Number of the step, counted from 0 over all epochs.
            draws: The generators of the epoch, as `generators` returns them.
        """
        drawn = {name: _draw(layer, rows, draws[name]).to(self.device) for name, layer in self.drawn.items()}
        batch = self.train_batches.batch(rows.contiguous(), epoch)
        with self._rng("step", step):
            _, means = self._train_values(self.leaves, {**self.buffers, **drawn}, batch)
        return means

    @torch.no_grad()
    def validate(self) -> tuple[Figures, Tensor]:
        """Evaluate the replicas on the validation split, in float32. The parameters are those in `kept`.

        All examples have the same weight. The terms have their full weights, without warm-up or decay. If a term has
        values only for training examples, the metric `loss`, the weighted sum of all terms, is left out. Losses that
        compare examples get the examples in a fixed random order, which is the same for all seeds.

        Returns:
            Two results:

            - The loss and each value of the objective, by name: the means over the examples, (S,).
            - Whether each example is classified correctly, (S, N), in the order of the split.
        """
        self.distiller.eval()
        replicas, kept = len(self.seeds), self.kept if self.stacked else _first_rows(self.kept)
        measured, is_correct = [], []
        for rows in self.validation_order.split(self.validation_sizes):
            batch = self.validation_batches.batch(rows)
            # All replicas get the same examples. `expand` returns a view and copies nothing.
            shared = batch.map(lambda tensor: tensor.expand(replicas, *tensor.shape))
            with self._rng("validation"):
                logits, means = self.values(kept, self.kept_buffers, shared)
            measured.append(torch.stack(list(means.values())) if means else logits.new_zeros(0, replicas))
            is_correct.append(logits.argmax(dim=2) == batch.labels)
        every, names = torch.stack(measured), self.distiller.objective.names
        if names[: len(self.names)] == list(self.names):
            final = [[term.factor for term in setting.terms] for setting in self.settings]
            weights = torch.tensor([final], device=self.device).mT  # (1, W, S)
            every, names = figures.with_loss(every, weights), ["loss", *names]
        means = dict(zip(names, figures.means(every, self.validation_sizes), strict=True))
        return means, torch.cat(is_correct, dim=1).cpu()[:, self.validation_order.argsort()]

    def state(self, row: int, part: str) -> State:
        """Return a copy of a replica's stored tensors on the CPU, by their names without the prefix.

        Args:
            row: Index of the replica in the stack.
            part: Prefix of the tensors' names, `student.` or `objective.own.`.
        """
        return {
            name.removeprefix(part): tensor[row].detach().to("cpu", copy=True)
            for name, tensor in {**self.kept, **self.kept_buffers}.items()
            if name.startswith(part)
        }

    def snapshot(self) -> State:
        """Return a copy, on the CPU, of all tensors that training steps change."""
        parts = [(role, optimizer.remembered()) for role, optimizer in self._optimizers.items()]
        every = self._weights() | {f"{role}{name}": tensor for role, own in parts for name, tensor in own.items()}
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in every.items()}

    def restore(self, snapshot: State) -> None:
        """Restore a state that `snapshot` returned for a stack with the same seeds and recipe."""
        for name, tensor in self._weights().items():
            tensor.detach().copy_(snapshot[name])
        for role, optimizer in self._optimizers.items():
            optimizer.restore({name.removeprefix(role): own for name, own in snapshot.items() if name.startswith(role)})

    @property
    def _optimizers(self) -> dict[str, Optimizer | RowOptimizers]:
        return {"optimizer/": self.optimizer, "adversary/": self.adversary}

    def _weights(self) -> State:
        """Return the parameters, the buffers and, if `recipe.ema` is set, their averages."""
        parts = {"params/": self.params, "buffers/": self.buffers}
        if self.recipe.ema:
            parts |= {"kept/": self.kept, "kept buffers/": self.kept_buffers}
        return {f"{part}{name}": tensor for part, own in parts.items() for name, tensor in own.items()}

    def values(self, params: State, buffers: State, batch: Batch) -> tuple[Tensor, Figures]:
        """Return the logits (S, B, K) of a batch, and the mean (S,) of each value of the objective, by name.

        If the student is not stackable, the stack has a single row. `torch.func.vmap` is then not used, because a step
        with convolutions would take 1.4 times as long.

        Args:
            params: Parameters of shape (S, ...). If the student is not stackable, they have the shape (...).
            buffers: Buffers of shape (S, ...).
            batch: Examples of each replica, (S, B, ...).
        """
        if self.stacked:
            return self.distiller.stacked({**params, **buffers}, batch)
        logits, values = functional_call(self.distiller, {**params, **_first_rows(buffers)}, (batch.map(first_row),))
        return logits[None], {name: value.mean()[None] for name, value in values.items()}

    def _gradients(self, values: Tensor, grad_outputs: Tensor) -> State:
        """Return the gradients (S, ...) of the weighted sum of the objective's values, by parameter name.

        Parameters without a gradient are left out.

        Args:
            values: The objective's T values for S replicas, (T, S).
            grad_outputs: Weights of the values, (T, S).
        """
        leaves = list(self.leaves.values())
        gradients = torch.autograd.grad(values, leaves, grad_outputs, allow_unused=True)
        reached = {name: tensor for name, tensor in zip(self.leaves, gradients, strict=True) if tensor is not None}
        return reached if self.stacked else {name: tensor[None] for name, tensor in reached.items()}

    def _rng(self, *purpose: str | int) -> AbstractContextManager[None]:
        """Return a context that seeds torch's global generator, if the network or a loss draws from this generator."""
        if not self.distiller.draws:
            return nullcontext()
        return isolated_rng(generator_for(self.seeds[0], *purpose), self.device)


def _initial(distiller: Distiller, recipe: Recipe, seeds: Sequence[int], device: torch.device) -> tuple[State, State]:
    """Return the initial parameters and persistent buffers of all replicas, (S, ...) each, on the device."""
    fresh = deepcopy(distiller).cpu()  # on the CPU, so that the draws are the same for all devices
    persistent = fresh.state_dict().keys()
    rows: list[tuple[State, State]] = []
    for seed in seeds:
        initialise(fresh.student, generator_for(seed, "student"), fan_out=recipe.init == "fan_out")
        initialise(fresh.objective, generator_for(seed, "own"))
        params = {name: tensor.detach().clone() for name, tensor in fresh.named_parameters()}
        buffers = {name: tensor.clone() for name, tensor in fresh.named_buffers() if name in persistent}
        rows.append((params, buffers))
    params, buffers = (
        {name: torch.stack([row[part][name] for row in rows]).to(device) for name in rows[0][part]} for part in (0, 1)
    )
    return params, buffers


def _part(tensors: State, names: Collection[str]) -> State:
    return {name: tensor for name, tensor in tensors.items() if name in names}


def _first_rows(tensors: State) -> State:
    return {name: tensor[0] for name, tensor in tensors.items()}


def _draw(layer: StepRandomness, rows: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Draw the random tensor of a layer for a step, (S, ...).

    Args:
        layer: The layer.
        rows: Indices of the examples of each replica, (S, B).
        generators: Generator of each replica.
    """
    return torch.stack([layer.draw(own, generator) for own, generator in zip(rows, generators, strict=True)])
