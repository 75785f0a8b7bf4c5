"""A student joined with its objective: one forward pass gives every term's value."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import deepcopy

import torch
from torch import Tensor, nn

from kdmodels.catalogue import LOSSES
from kdmodels.data.files import listed
from kdmodels.errors import UserError
from kdmodels.knowledge import LOGITS
from kdmodels.losses.numerics import full_precision
from kdmodels.networks import Tap, find_tap
from kdmodels.networks.batch_norm import make_precise
from kdmodels.networks.initialise import BATCH_NORMS
from kdmodels.networks.layout import layout_of
from kdmodels.networks.stacked import run_stacked
from kdmodels.randomness import forked, stream
from kdmodels.terms import Term
from kdmodels.training.objective import PROBE, Objective, within
from kdmodels.training.own import Shape, own_modules, taken_shape


class Distiller(nn.Module):
    """The student and its objective, which may own modules beside it.

    Args:
        student: takes images (B, C, H, W), gives logits (B, K).
        terms: the objective, a weighted sum.
        input_shape: (C, H, W).
        teacher_shapes: the shape of one example's features at each tapped place of the teacher.
        labels: (N,), those of the training split; -1: not known.
        batch: how many of them a step takes.
        repeats: whether a step may take one of them more than once.
        autocast: whether the student's training forward pass is in bfloat16; the terms are computed in float32.
        compiled: whether steps are compiled, which chooses how its maps lie in memory.
        class_weights: (K,), by which losses on labels are weighed in training.

    Attributes:
        draws: whether the student, when training, draws from torch's global generator.
        unreached: the names of the student's other parameters that no term reaches; they stay as they were drawn.

    Raises:
        UserError: the student has frozen parameters or state that is not stored, a tapped place does not exist or
            gives no one tensor, its features can't be compared with the teacher's, a term reaches no parameter of the
            student, a batch of one meets batch norm or a loss that compares examples, or repeated examples a loss that
            remembers them.
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term],
        *,
        input_shape: Shape,
        teacher_shapes: Mapping[str, Shape],
        labels: Tensor,
        batch: int,
        repeats: bool = False,
        autocast: bool = False,
        compiled: bool = False,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        frozen = [name for name, parameter in student.named_parameters() if not parameter.requires_grad]
        if frozen:
            raise UserError(f"the network has frozen parameters: {listed(frozen)}; allowed: all of them trainable")
        self.student, self.autocast = student, autocast
        self.taps: dict[str, Tap] = {at: find_tap(student, at) for term in terms for at, _ in term.pairs}
        shapes = {at: tap.shape(student, input_shape) for at, tap in self.taps.items()}
        with torch.no_grad():
            classes = student.eval()(torch.zeros(2, *input_shape)).shape[1]
        own = nn.ModuleDict()
        for term in terms:
            name = term.loss
            pairs = [
                (taken_shape(name, shapes[at]), taken_shape(name, teacher_shapes[there])) for at, there in term.pairs
            ]
            try:
                with forked(stream(0, "own")):  # torch's layers draw, and another student may be drawing now
                    module = own_modules(term, pairs, classes=classes, labels=labels)
            except ValueError as error:
                raise _misfit(term, error) from error
            if module is not None:
                own[name] = module
        self.objective = Objective(terms, own, class_weights=class_weights, unlabelled=bool((labels < 0).any()))
        self.layout = (lambda images: images) if autocast or compiled else layout_of(student)
        make_precise(self)
        if batch == 1:
            self._refuse_batches_of_one()
        for name in self.objective.terms:
            if repeats and LOSSES[name].remembers:
                raise UserError(f"balance: sampling: {name} takes an example once an epoch; allowed: null, weights")
        self.unreached = self._unreached(input_shape, {LOGITS: (classes,), **teacher_shapes})
        last = _last_layer(student, input_shape) if self.unreached else None
        if last is not None:
            head = {f"{last.module}.{name}" for name, _ in student.get_submodule(last.module).named_parameters()}
            if head <= set(self.unreached):
                self.objective.probed, self.taps["last"] = True, last
                self.unreached = [name for name in self.unreached if name not in head]

    @property
    def probed(self) -> bool:
        """Whether the last layer is trained as a linear probe, since no term reaches it."""
        return self.objective.probed

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        teacher: Mapping[str, Tensor],
        indices: Tensor,
        mixed: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, K) of images (B, C, H, W), and the objective's values, which say what the other arguments are."""
        logits, features = self._run(images)
        return logits, self.objective(logits, features, labels, teacher, indices, mixed or {})

    def stacked(
        self,
        tensors: Mapping[str, Tensor],
        images: Tensor,
        labels: Tensor,
        teacher: Mapping[str, Tensor],
        indices: Tensor,
        mixed: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (S, B, K) and mean values (S,) of S replicas with batches of their own, of a stackable student.

        Args:
            tensors: the parameters and buffers of all replicas, (S, ...).
        """
        with self._precision(images):
            logits, features = run_stacked(self.student, within(tensors, "student."), images, self.taps)
        features = {at: full_precision(tensor) for at, tensor in features.items()}
        if self.probed:
            head = f"student.{self.taps['last'].module}."
            features[PROBE], _ = run_stacked(self._head, within(tensors, head), features["last"].detach(), {})
        given = (full_precision(logits), features, labels, teacher, indices, mixed)
        return given[0], self.objective.stacked(within(tensors, "objective."), *given)

    def _run(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's logits, its features by the name they are tapped at, and the probe's logits."""
        with ExitStack() as stack:
            caught = {at: stack.enter_context(tap.on(self.student)) for at, tap in self.taps.items()}
            stack.enter_context(self._precision(images))
            logits = self.student(self.layout(images))
        features = {at: full_precision(self.taps[at].one(tensors)) for at, tensors in caught.items()}
        if self.probed:
            features[PROBE] = self._head(features["last"].detach())
        return full_precision(logits), features

    def _precision(self, images: Tensor) -> AbstractContextManager[object]:
        if not (self.autocast and self.training):
            return nullcontext()
        # No weight is used twice, so that a cache of them is only memory.
        return torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False)

    @property
    def _head(self) -> nn.Module:
        return self.student.get_submodule(self.taps["last"].module)

    def _refuse_batches_of_one(self) -> None:
        if any(isinstance(module, BATCH_NORMS) for module in self.modules()):
            raise UserError("batch: 1: batch norm can't learn from one example; allowed: 2 or more")
        for name in self.objective.terms:
            if LOSSES[name].per_batch:
                raise UserError(f"batch: 1: {name} compares the examples of a batch; allowed: 2 or more")

    def _unreached(self, input_shape: Shape, teacher_shapes: Mapping[str, Shape]) -> list[str]:
        """Try the objective on two blank images, term by term; the names of the parameters that get no gradient."""
        trial = deepcopy(self).train()  # whose running statistics and memory may move
        parameters = dict(trial.student.named_parameters())
        teacher = {name: torch.zeros(2, *shape) for name, shape in teacher_shapes.items()}
        labels = indices = torch.arange(2)
        with forked(stream(0, "trial")):
            before = torch.get_rng_state()
            logits, features = trial._run(torch.zeros(2, *input_shape))
            self.draws = not torch.equal(torch.get_rng_state(), before)
        _require_no_hidden_state(self.student, trial.student)
        reached: set[str] = set()
        for name, term in trial.objective.terms.items():
            try:
                value = trial.objective(logits, features, labels, teacher, indices, {}, [name])[name]
            except ValueError as error:
                raise _misfit(term, error) from error
            gradients: Sequence[Tensor | None] = (
                torch.autograd.grad(value.mean(), list(parameters.values()), retain_graph=True, allow_unused=True)
                if value.requires_grad
                else [None] * len(parameters)
            )
            trained = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
            if not trained:
                raise _misfit(term, ValueError("trains no parameter of the student; allowed: a place after the first"))
            reached |= trained
        return [name for name in parameters if name not in reached]


def _last_layer(network: nn.Module, input_shape: Shape) -> Tap | None:
    """The input of the linear layer whose output is the logits; None where there is no such layer."""
    try:
        last = find_tap(network, "last")
    except UserError:
        return None
    images = torch.rand(2, *input_shape, generator=stream(0, "last layer"))
    with last.on(network) as caught, torch.no_grad():
        logits = network.eval()(images)
        given = network.get_submodule(last.module)(caught[0]) if len(caught) == 1 else None
    return last if given is not None and given.shape == logits.shape and torch.allclose(given, logits) else None


def _require_no_hidden_state(before: nn.Module, after: nn.Module) -> None:
    """A step that has moved a buffer which is not stored: replicas would share it, and the stored network lack it."""
    stored, were = after.state_dict().keys(), dict(before.named_buffers())
    for name, buffer in after.named_buffers():
        if name not in stored and not torch.equal(buffer, were[name]):
            raise UserError(f"buffer {name} changes in training and is not stored; allowed: persistent=True")


def _misfit(term: Term, error: ValueError) -> UserError:
    places = ", ".join(at if at == there else f"{at} with {there}" for at, there in term.pairs)
    return UserError(f"{term.loss}{f' at {places}' if places else ''}: {error}")
