"""A student joined with the terms of its objective: one forward pass gives every term's value."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels import losses
from kdmodels.catalogue import LOSSES
from kdmodels.data.files import listed
from kdmodels.errors import UserError
from kdmodels.knowledge import LOGITS
from kdmodels.losses.logits import full_precision
from kdmodels.networks import Tap, find_tap
from kdmodels.networks.initialise import BATCH_NORMS
from kdmodels.randomness import forked, stream
from kdmodels.terms import Term
from kdmodels.training.own import Shape, matched, own_modules, taken, taken_shape

PROBE = "probe"
"""Cross entropy of a last layer that no term reaches, on features held fixed: a linear probe, trained beside them."""

DISCRIMINATOR = "discriminator"
"""The adversary's own loss; none of its gradient reaches the student."""


class Distiller(nn.Module):
    """The student, and what its objective owns beside it: regressors, projections, memory banks, a discriminator.

    Args:
        student: takes images (B, C, H, W), gives logits (B, K).
        terms: the objective, a weighted sum.
        input_shape: (C, H, W).
        teacher_shapes: the shape of one example's features at each tapped place of the teacher.
        examples: how many there are to train on.
        batch: how many of them a step takes.
        repeats: whether a step may take one of them more than once.
        autocast: whether the student's training forward pass is in bfloat16; the terms are computed in float32.
        class_weights: (K,), by which losses on labels are weighed in training.
        unlabelled: whether some of the labels are -1: not known.

    Attributes:
        draws: whether the student, when training, draws from torch's global generator.
        probed: whether the last layer is trained as a linear probe, since no term reaches it.
        unreached: the names of the student's other parameters that no term reaches; they stay as they were drawn.

    Raises:
        UserError: the student has frozen parameters or state that is not stored, a tapped place does not exist or
            gives no one tensor, its features can't be compared with the teacher's, a term reaches no parameter of the
            student, a batch of one meets batch norm or a loss that compares examples, or repeated examples a loss that
            remembers them.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term],
        *,
        input_shape: Shape,
        teacher_shapes: Mapping[str, Shape],
        examples: int,
        batch: int,
        repeats: bool = False,
        autocast: bool = False,
        class_weights: Tensor | None = None,
        unlabelled: bool = False,
    ) -> None:
        super().__init__()
        frozen = [name for name, parameter in student.named_parameters() if not parameter.requires_grad]
        if frozen:
            raise UserError(f"the network has frozen parameters: {listed(frozen)}; allowed: all of them trainable")
        self.student, self.autocast, self.unlabelled = student, autocast, unlabelled
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.terms = {term.loss: term for term in terms}
        self.taps: dict[str, Tap] = {at: find_tap(student, at) for term in terms for at, _ in term.pairs}
        shapes = {at: tap.shape(student, input_shape) for at, tap in self.taps.items()}
        with torch.no_grad():
            classes = student.eval()(torch.zeros(2, *input_shape)).shape[1]
        self.own = nn.ModuleDict()
        for name, term in self.terms.items():
            pairs = [
                (taken_shape(name, shapes[at]), taken_shape(name, teacher_shapes[there])) for at, there in term.pairs
            ]
            try:
                with forked(stream(0, "own")):  # torch's layers draw, and another student may be drawing now
                    own = own_modules(term, pairs, classes=classes, examples=examples)
            except ValueError as error:
                raise _misfit(term, error) from error
            if own is not None:
                self.own[name] = own
        if batch == 1:
            self._refuse_batches_of_one()
        for name in self.terms:
            if repeats and LOSSES[name].remembers:
                raise UserError(f"balance: sampling: {name} takes an example once an epoch; allowed: null, weights")
        self.probed = False
        self.unreached = self._unreached(input_shape, {LOGITS: (classes,), **teacher_shapes})
        last = _last_layer(student, input_shape) if self.unreached else None
        if last is not None:
            head = {f"{last.module}.{name}" for name, _ in student.get_submodule(last.module).named_parameters()}
            if head <= set(self.unreached):
                self.probed, self.taps["last"] = True, last
                self.unreached = [name for name in self.unreached if name not in head]

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        teacher: Mapping[str, Tensor],
        indices: Tensor,
        mixed: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, K), and the unweighted values, (B,) or (), of the terms, the probe and the discriminator.

        In eval mode a term that knows only the examples that it was trained on has no value.

        Args:
            teacher: `logits` (B, K), of an ensemble (B, M, K), and features (B, ...) by the name they are tapped at,
                as far as the terms need.
            indices: (B,), the examples' numbers in their split.
            mixed: `labels` (B,) of other images that are mixed in, and the `share` (B,) that each keeps of itself. Of
                every loss of labels the mean of the two labels' values is taken, by the share.
        """
        logits, features = self._run(images)
        mixed = mixed or {}
        values = {
            name: self._value(term, logits, features, labels, teacher, indices, mixed)
            for name, term in self.terms.items()
            if self.training or not LOSSES[name].remembers
        }
        if self.probed:
            head = self.student.get_submodule(self.taps["last"].module)
            probe = partial(F.cross_entropy, head(features["last"].detach()), reduction="none")
            values[PROBE] = self._on_labels(probe, labels, mixed)
        if "adversarial" in self.own:
            adversary = self.own["adversarial"]
            assert isinstance(adversary, losses.Adversarial)
            values[DISCRIMINATOR] = adversary.discriminator_loss(
                logits, _teacher_logits(self.terms["adversarial"], teacher)
            )
        return logits, values

    def _run(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's logits, and its features by the name they are tapped at."""
        with ExitStack() as stack:
            caught = {at: stack.enter_context(tap.on(self.student)) for at, tap in self.taps.items()}
            if self.autocast and self.training:  # no weight is used twice, so that a cache of them is only memory
                stack.enter_context(torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False))
            logits = self.student(images)
        features = {at: full_precision(self.taps[at].one(tensors)) for at, tensors in caught.items()}
        return full_precision(logits), features

    def _value(
        self,
        term: Term,
        logits: Tensor,
        features: Mapping[str, Tensor],
        labels: Tensor,
        teacher: Mapping[str, Tensor],
        indices: Tensor,
        mixed: Mapping[str, Tensor],
    ) -> Tensor:
        name, row = term.loss, LOSSES[term.loss]
        if name == "adversarial":
            return self.own[name](logits, _teacher_logits(term, teacher))
        if row.needs != "features":
            taught = [] if row.needs == "labels" else [_teacher_logits(term, teacher)]
            loss = partial(getattr(losses, name), logits, *taught, **term.hyperparameters)
            return loss() if row.needs == "logits" else self._on_labels(loss, labels, mixed)
        mine = [taken(name, features[at]) for at, _ in term.pairs]
        theirs = [taken(name, teacher[there]) for _, there in term.pairs]
        if row.module:
            known = [indices] if row.remembers else []
            places = zip(self._at(name), mine, theirs, strict=True)
            return torch.stack([module(one, other, *known) for module, one, other in places]).sum(dim=0)
        if name == "review":
            mine = self.own[name](mine)
        elif name in self.own:
            regressed = [regressor(one) for regressor, one in zip(self._at(name), mine, strict=True)]
            mine, theirs = map(list, zip(*map(matched, regressed, theirs), strict=True))
        loss = getattr(losses, name)
        if row.joint:
            return loss(mine, theirs, **term.hyperparameters)
        values = [loss(one, other, **term.hyperparameters) for one, other in zip(mine, theirs, strict=True)]
        return torch.stack(values).sum(dim=0)

    def _on_labels(self, loss: Callable[[Tensor], Tensor], labels: Tensor, mixed: Mapping[str, Tensor]) -> Tensor:
        """A loss of labels (B,); of mixed images, of both labels in the images' shares.

        The mean over the batch is that over the labels that are known, each weighed by its class.
        """
        if self.class_weights is None and not self.unlabelled:
            return self._mixed(loss, labels, mixed)

        def weighed(targets: Tensor) -> Tensor:
            classes = targets.clamp(min=0)
            value = loss(classes) * (targets >= 0)
            return value * self.class_weights[classes] if self.class_weights is not None and self.training else value

        known = self._mixed(lambda targets: (targets >= 0).float(), labels, mixed)
        return self._mixed(weighed, labels, mixed) * (len(labels) / known.sum().clamp(min=1e-6))

    @staticmethod
    def _mixed(loss: Callable[[Tensor], Tensor], labels: Tensor, mixed: Mapping[str, Tensor]) -> Tensor:
        if not mixed:
            return loss(labels)
        return mixed["share"] * loss(labels) + (1 - mixed["share"]) * loss(mixed["labels"])

    def _refuse_batches_of_one(self) -> None:
        if any(isinstance(module, BATCH_NORMS) for module in self.modules()):
            raise UserError("batch: 1: batch norm can't learn from one example; allowed: 2 or more")
        for name in self.terms:
            if LOSSES[name].per_batch:
                raise UserError(f"batch: 1: {name} compares the examples of a batch; allowed: 2 or more")

    def _at(self, name: str) -> nn.ModuleList:
        modules = self.own[name]
        assert isinstance(modules, nn.ModuleList)
        return modules

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
        for term in trial.terms.values():
            try:
                value = trial._value(term, logits, features, labels, teacher, indices, {})
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


def _teacher_logits(term: Term, teacher: Mapping[str, Tensor]) -> Tensor:
    """(B, K); an ensemble is one teacher whose softened distribution, at the term's temperature, is the members' mean.

    Where logits are compared as they are it is the mean of the logits; for logit regression, the limit of high
    temperatures, that is the same. `standardised_soft_targets` takes the members (B, M, K) themselves.
    """
    logits = teacher[LOGITS]
    if logits.dim() == 2 or term.loss == "standardised_soft_targets":
        return logits
    if term.loss in ("logit_regression", "adversarial"):
        return logits.mean(dim=1)
    return losses.ensemble_logits(logits, temperature=float(term.hyperparameters["temperature"]))


def _misfit(term: Term, error: ValueError) -> UserError:
    places = ", ".join(at if at == there else f"{at} with {there}" for at, there in term.pairs)
    return UserError(f"{term.loss}{f' at {places}' if places else ''}: {error}")
