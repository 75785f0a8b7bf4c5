"""An objective: the values of its terms, and what they own beside the student."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from kdmodels import losses
from kdmodels.catalogue import LOSSES, WEIGHT_BATCH
from kdmodels.knowledge import LOGITS
from kdmodels.losses.features import HintRegressor
from kdmodels.losses.numerics import unrounded
from kdmodels.networks.stacked import is_stackable, run_stacked
from kdmodels.terms import Term
from kdmodels.training.own import matched, taken

PROBE = "probe"
"""Cross entropy of a last layer that no term reaches, on features held fixed: a linear probe, trained beside them."""

DISCRIMINATOR = "discriminator"
"""The adversary's own loss; none of its gradient reaches the student."""


class Objective(nn.Module):
    """The terms of an objective, whose unweighted values it gives, and the modules that they own.

    Args:
        terms: of a weighted sum.
        own: the modules by their term's loss: regressors, projections, memory banks, a discriminator.
        class_weights: (K,), by which losses on labels are weighed in training.
        unlabelled: whether some of the labels are -1: not known.

    Attributes:
        regressed: the terms whose own modules are regressors of features without positions, which can be stacked.
        probed: whether the student's last layer is trained as a linear probe, since no term reaches it.
    """

    class_weights: Tensor | None

    def __init__(
        self, terms: Sequence[Term], own: nn.ModuleDict, *, class_weights: Tensor | None, unlabelled: bool
    ) -> None:
        super().__init__()
        self.terms, self.own, self.unlabelled, self.probed = {term.loss: term for term in terms}, own, unlabelled, False
        self.regressed = [name for name, modules in own.items() if _are_stackable_regressors(modules)]
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    def names(self) -> list[str]:
        """What it has values of now; in eval mode a term that knows only the examples it was trained on has none."""
        known = [name for name in self.terms if self.training or not LOSSES[name].remembers]
        return known + [PROBE] * self.probed + [DISCRIMINATOR] * ("adversarial" in self.own)

    def forward(
        self,
        logits: Tensor,
        features: Mapping[str, Tensor],
        labels: Tensor,
        teacher: Mapping[str, Tensor],
        indices: Tensor,
        mixed: Mapping[str, Tensor],
        names: Collection[str] | None = None,
        regressed: Mapping[str, list[Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Return the unweighted values, (B,) or (), of the terms, the probe and the discriminator.

        The value of a loss that falls as 1 / B is multiplied by B / `WEIGHT_BATCH`.

        Args:
            logits: (B, K), the student's.
            features: (B, ...), the student's, by the name they are tapped at; at `probe` the probe's logits.
            labels: (B,).
            teacher: `logits` (B, K), of an ensemble (B, M, K), and features (B, ...) by the name they are tapped at,
                as far as the terms need.
            indices: (B,), the examples' numbers in their split.
            mixed: `labels` (B,) of other images that are mixed in, and the `share` (B,) that each keeps of itself. Of
                every loss of labels the mean of the two labels' values is taken, by the share.
            names: the terms to compute; None: all.
            regressed: by a term's name what its regressors make of the student's features (B, D), where that is known.
        """
        given = (logits, features, labels, teacher, indices, mixed, regressed or {})
        return {name: self._value(name, *given) for name in (self.names if names is None else names)}

    def stacked(
        self,
        tensors: Mapping[str, Tensor],
        logits: Tensor,
        features: Mapping[str, Tensor],
        labels: Tensor,
        teacher: Mapping[str, Tensor],
        indices: Tensor,
        mixed: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """The mean values (S,) of S replicas, whose parameters and buffers are `tensors` (S, ...).

        All else is as `forward` takes it, with a first dimension S.
        """
        given = (logits, features, labels, teacher, indices, mixed)
        flat = [name for name in self.names if self._is_by_example(name)]
        # What counts examples by themselves takes all replicas' as one batch, which costs nothing; vmap does.
        side_by_side: list[Any] = [_flat(one) for one in given]
        regressed = {name: self._regressed(name, tensors, features) for name in flat if name in self.own}
        values = {
            name: value.view(len(logits), -1).mean(dim=1)
            for name, value in self(*side_by_side, flat, regressed).items()
        }
        rest = [name for name in self.names if name not in flat]
        if rest:

            def one(own: Mapping[str, Tensor], *given: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
                told = functional_call(self, dict(own), (*given, rest))
                return {name: value.mean() for name, value in told.items()}

            values |= (vmap if len(logits) > 1 else _alone)(one)(dict(tensors), *given)
        return {name: values[name] for name in self.names}

    def _regressed(self, name: str, tensors: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> list[Tensor]:
        """What the replicas' regressors make of the student's features (S, B, ...), at each place (S * B, D)."""
        found = []
        for number, (regressor, (at, _)) in enumerate(zip(self._at(name), self.terms[name].pairs, strict=True)):
            own = within(tensors, f"own.{name}.{number}.")
            mine = taken(name, features[at].flatten(0, 1)).unflatten(0, features[at].shape[:2])
            with unrounded(mine):
                made, _ = run_stacked(regressor, own, mine.to(own["0.weight"].dtype), {})
            found.append(made.flatten(0, 1))
        return found

    def _is_by_example(self, name: str) -> bool:
        """Whether the value of an example depends on that example and the student's weights alone."""
        if name == DISCRIMINATOR or (name in self.own and name not in self.regressed):
            return False
        # Else the mean is over the labels of a batch that are known.
        all_labels_count = self.class_weights is None and not self.unlabelled
        if name == PROBE:
            return all_labels_count
        return not LOSSES[name].per_batch and (all_labels_count or "labels" not in LOSSES[name].needs)

    def _value(
        self,
        name: str,
        logits: Tensor,
        features: Mapping[str, Tensor],
        labels: Tensor,
        teacher: Mapping[str, Tensor],
        indices: Tensor,
        mixed: Mapping[str, Tensor],
        regressed: Mapping[str, list[Tensor]],
    ) -> Tensor:
        if name == PROBE:
            return self._on_labels(partial(losses.hard_labels, features[PROBE]), labels, mixed)
        if name in (DISCRIMINATOR, "adversarial"):
            adversary = self.own["adversarial"]
            assert isinstance(adversary, losses.Adversarial)
            compare = adversary if name == "adversarial" else adversary.discriminator_loss
            return compare(logits, _teacher_logits(self.terms["adversarial"], teacher))
        term, row = self.terms[name], LOSSES[name]
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
        if name == "review":  # its hyperparameter is its fusion's
            return losses.review(self.own[name](mine), theirs)
        if name in self.own:
            mine = regressed.get(name) or [regress(one) for regress, one in zip(self._at(name), mine, strict=True)]
            mine, theirs = map(list, zip(*map(matched, mine, theirs), strict=True))
        loss = getattr(losses, name)
        if row.joint:
            return loss(mine, theirs, **term.hyperparameters)
        values = [loss(one, other, **term.hyperparameters) for one, other in zip(mine, theirs, strict=True)]
        value = torch.stack(values).sum(dim=0)
        return value * (len(logits) / WEIGHT_BATCH) if row.falls_with_batch else value

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

    def _at(self, name: str) -> nn.ModuleList:
        modules = self.own[name]
        assert isinstance(modules, nn.ModuleList)
        return modules


def within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _are_stackable_regressors(modules: nn.Module) -> bool:
    return isinstance(modules, nn.ModuleList) and all(
        isinstance(each, HintRegressor) and is_stackable(nn.Sequential(*each)) for each in modules
    )


def _alone(function: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """`vmap` over a single row, without its cost."""

    def call(*stacked: Any) -> dict[str, Tensor]:
        return {name: value[None] for name, value in function(*map(first_row, stacked)).items()}

    return call


def first_row(given: Any) -> Any:
    """The first row of a tensor, or of each of a mapping's."""
    return {name: tensor[0] for name, tensor in given.items()} if isinstance(given, dict) else given[0]


def _flat(given: Tensor | Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """Tensors (S, B, ...) as (S * B, ...)."""
    if isinstance(given, Tensor):
        return given.flatten(0, 1)
    return {name: tensor.flatten(0, 1) for name, tensor in given.items()}


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
