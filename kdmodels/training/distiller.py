"""A module that combines a student with its objective, a weighted sum of terms. Each term is a loss."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import deepcopy

import torch
from torch import Tensor, nn

from kdmodels.data.files import listed
from kdmodels.errors import UserError
from kdmodels.experiment import Recipe
from kdmodels.experiment.terms import Term
from kdmodels.knowledge import LOGITS
from kdmodels.losses.numerics import full_precision
from kdmodels.losses.term_loss import Shape, TermLoss
from kdmodels.networks import Tap, find_tap
from kdmodels.networks.initialise import BATCH_NORMS
from kdmodels.networks.layout import layout_of
from kdmodels.networks.stacked import is_stackable, run_stacked
from kdmodels.randomness import generator_for, isolated_rng
from kdmodels.training.batches import Batch, class_balance
from kdmodels.training.loss_modules import build_loss, taken_shape
from kdmodels.training.objective import PROBE, Objective, StudentOutput, within


class Distiller(nn.Module):
    """The student and its objective, as one module. The objective can contain trainable modules.

    Args:
        student: Network that maps images (B, C, H, W) to logits (B, K).
        terms: Terms of the objective, which is their weighted sum.
        recipe: Settings of the training. With `precision: bfloat16`, only the student's forward pass in training uses
            bfloat16. The terms are computed in float32.
        input_shape: Shape of one image, (C, H, W).
        teacher_shapes: Shape of one example's features at each place in the teacher where features are taken.
        labels: Labels of the training split, (N,). -1 marks an unknown label.

    Attributes:
        draws: Whether the student or a loss draws from torch's global random generator in training mode.
        unreached: Names of the student's parameters that receive no gradient from any term and keep their initial
            values.

    Raises:
        UserError: One of these conditions holds:

            - The student has frozen parameters, or state that is not stored.
            - A place where features are taken does not exist, or does not have exactly one tensor.
            - The features of a place cannot be compared with the teacher's features.
            - A term has no gradient for any parameter of the student.
            - The batch size is 1, and the student has batch norm.
            - The batch size is 1, and a loss compares examples.
            - The recipe has `balance: sampling`, and a loss needs the indices of the examples.
            - A user's own loss is not allowed to run, or fails its trial, see `kdmodels.losses.user_loss`.
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term],
        recipe: Recipe,
        *,
        input_shape: Shape,
        teacher_shapes: Mapping[str, Shape],
        labels: Tensor,
    ) -> None:
        super().__init__()
        frozen = [name for name, parameter in student.named_parameters() if not parameter.requires_grad]
        if frozen:
            raise UserError(f"the network has frozen parameters: {listed(frozen)}. Allowed: all of them trainable")
        self.student, self.autocast = student, recipe.precision == "bfloat16"
        self.taps: dict[str, Tap] = {at: find_tap(student, at) for term in terms for at, _ in term.pairs}
        shapes = {at: tap.shape(student, input_shape) for at, tap in self.taps.items()}
        with torch.no_grad():
            classes = student.eval()(torch.zeros(2, *input_shape)).shape[1]
        losses: dict[str, TermLoss] = {}
        for term in terms:
            name = term.loss
            pairs = [
                (taken_shape(term, shapes[at]), taken_shape(term, teacher_shapes[there])) for at, there in term.pairs
            ]
            try:
                # Torch's layers draw initial weights from the global generator, which other students may also use.
                with isolated_rng(generator_for(0, "own")):
                    losses[name] = build_loss(term, pairs, classes=classes, labels=labels)
            except ValueError as error:
                raise _misfit(term, error) from error
        class_weights = class_balance(labels) if recipe.balance == "weights" else None
        unlabelled = bool((labels < 0).any())
        self.objective = Objective(terms, losses, class_weights=class_weights, unlabelled=unlabelled)
        self.layout = (lambda images: images) if self.autocast or recipe.compile else layout_of(student, training=True)
        if recipe.batch == 1:
            self._refuse_batches_of_one()
        for name, term in self.objective.terms.items():
            if recipe.balance == "sampling" and term.row.remembers:
                raise UserError(f"balance: sampling: {name} needs each example once per epoch. Allowed: null, weights")
        self.unreached = self._unreached(input_shape, {LOGITS: (classes,), **teacher_shapes})
        last = _last_layer(student, input_shape) if self.unreached else None
        if last is not None:
            head = {f"{last.module}.{name}" for name, _ in student.get_submodule(last.module).named_parameters()}
            if head <= set(self.unreached):
                self.objective.probed, self.taps["last"] = True, last
                self.unreached = [name for name in self.unreached if name not in head]

    @property
    def probed(self) -> bool:
        """Whether the student's last layer is trained as a linear probe: on the labels, with fixed features.

        The probe is used if no term has a gradient for the last layer.
        """
        return self.objective.probed

    @property
    def stackable(self) -> bool:
        """Whether several replicas can be trained in one computation."""
        return is_stackable(self.student) and self.objective.stackable

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the student's logits (B, K), and the values of the objective by name.

        Each value has one entry per example, (B,), or is one number for the batch, ().
        """
        output = self.run(batch.images)
        return output.logits, self.objective(output, batch)

    def stacked(self, tensors: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits (S, B, K) of S replicas, and the means (S,) of the objective's values by name.

        The distiller must be stackable.

        Args:
            tensors: Parameters and buffers of all replicas by name, (S, ...) each.
            batch: Examples of each replica, (S, B, ...).
        """
        with self._precision(batch.images):
            logits, features = run_stacked(self.student, within(tensors, "student."), batch.images, self.taps)
        features = {at: full_precision(tensor) for at, tensor in features.items()}
        if self.probed:
            head = f"student.{self.taps['last'].module}."
            features[PROBE], _ = run_stacked(self._head, within(tensors, head), features["last"].detach(), {})
        output = StudentOutput(full_precision(logits), features)
        return output.logits, self.objective.stacked(within(tensors, "objective."), output, batch)

    def run(self, images: Tensor) -> StudentOutput:
        """Run the student on images (B, C, H, W). Return its logits and features, and the logits of any probe."""
        with ExitStack() as stack:
            caught = {at: stack.enter_context(tap.on(self.student)) for at, tap in self.taps.items()}
            stack.enter_context(self._precision(images))
            logits = self.student(self.layout(images))
        features = {at: full_precision(self.taps[at].one(tensors)) for at, tensors in caught.items()}
        if self.probed:
            features[PROBE] = self._head(features["last"].detach())
        return StudentOutput(full_precision(logits), features)

    def _precision(self, images: Tensor) -> AbstractContextManager[object]:
        if not (self.autocast and self.training):
            return nullcontext()
        # A step uses no weight twice, so autocast's cache of weights would cost memory and save no time.
        return torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False)

    @property
    def _head(self) -> nn.Module:
        return self.student.get_submodule(self.taps["last"].module)

    def _refuse_batches_of_one(self) -> None:
        if any(isinstance(module, BATCH_NORMS) for module in self.modules()):
            raise UserError("batch: 1: batch norm can't learn from one example. Allowed: 2 or more")
        for name, loss in self.objective.losses.items():
            if loss.per_batch:
                raise UserError(f"batch: 1: {name} compares the examples of a batch. Allowed: 2 or more")

    def _unreached(self, input_shape: Shape, teacher_shapes: Mapping[str, Shape]) -> list[str]:
        """Return the names of the student's parameters that receive no gradient from any term.

        The method computes the gradients of every term on two blank images. It also sets `draws`.

        Args:
            input_shape: Shape of one image, (C, H, W).
            teacher_shapes: Shape of one example's tensor, by the name of the teacher's tensor.

        Raises:
            UserError: The student has state that is not stored, or a term does not fit the student.
        """
        trial = deepcopy(self).train()  # a copy, because running statistics and memory banks may change
        teacher = {name: torch.zeros(2, *shape) for name, shape in teacher_shapes.items()}
        batch = Batch(torch.zeros(2, *input_shape), torch.arange(2), torch.arange(2), teacher, {})
        with isolated_rng(generator_for(0, "trial")):
            before = torch.get_rng_state()
            output = trial.run(batch.images)
            reached = _reached(trial, output, batch)
            self.draws = not torch.equal(torch.get_rng_state(), before)
        _require_no_hidden_state(self.student, trial.student)
        return [name for name, _ in trial.student.named_parameters() if name not in reached]


def _reached(distiller: Distiller, output: StudentOutput, batch: Batch) -> set[str]:
    """Return the names of the student's parameters that receive a gradient from any term.

    Raises:
        UserError: A term does not fit the student, or trains no parameter.
    """
    parameters = dict(distiller.student.named_parameters())
    reached: set[str] = set()
    for name, term in distiller.objective.terms.items():
        try:
            value = distiller.objective(output, batch, [name])[name]
        except ValueError as error:
            raise _misfit(term, error) from error
        gradients: Sequence[Tensor | None] = (
            torch.autograd.grad(value.mean(), list(parameters.values()), retain_graph=True, allow_unused=True)
            if value.requires_grad
            else [None] * len(parameters)
        )
        trained = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
        if not trained:
            raise _misfit(term, ValueError("trains no parameter of the student. Allowed: a later place"))
        reached |= trained
    return reached


def _last_layer(network: nn.Module, input_shape: Shape) -> Tap | None:
    """Return a tap on the input of the linear layer that computes the logits. `None` if there is no such layer."""
    try:
        last = find_tap(network, "last")
    except UserError:
        return None
    images = torch.rand(2, *input_shape, generator=generator_for(0, "last layer"))
    with last.on(network) as caught, torch.no_grad():
        logits = network.eval()(images)
        output = network.get_submodule(last.module)(caught[0]) if len(caught) == 1 else None
    return last if output is not None and output.shape == logits.shape and torch.allclose(output, logits) else None


def _require_no_hidden_state(before: nn.Module, after: nn.Module) -> None:
    """Raise UserError if a training step changed a buffer that is not stored.

    Students that are trained together, one per seed, would share such a buffer. A saved model would lack the buffer.

    Args:
        before: The network before the step.
        after: The same network after the step.
    """
    stored, initial = after.state_dict().keys(), dict(before.named_buffers())
    for name, buffer in after.named_buffers():
        if name not in stored and not torch.equal(buffer, initial[name]):
            raise UserError(f"buffer {name} changes in training and is not stored. Allowed: persistent=True")


def _misfit(term: Term, error: ValueError) -> UserError:
    places = ", ".join(at if at == there else f"{at} with {there}" for at, there in term.pairs)
    return UserError(f"{term.loss}{f' at {places}' if places else ''}: {error}")
