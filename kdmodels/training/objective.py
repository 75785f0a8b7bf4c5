"""The objective of a training: a weighted sum of terms. It contains the modules that the terms train."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from kdmodels.experiment.catalogue import WEIGHT_BATCH
from kdmodels.experiment.terms import Term
from kdmodels.knowledge import LOGITS
from kdmodels.losses.ensemble import ensemble_logits
from kdmodels.losses.logits import hard_labels
from kdmodels.losses.numerics import unrounded
from kdmodels.losses.regressor import HintRegressor
from kdmodels.losses.term_loss import LossInputs, TermLoss
from kdmodels.networks.stacked import is_stackable, run_stacked
from kdmodels.training.batches import Batch
from kdmodels.training.loss_modules import taken

PROBE = "probe"
"""The name of the cross entropy of a linear probe: a last layer that is trained on fixed features.

The probe is used if no term has a gradient for the student's last layer.
"""

_NONE = torch.empty(0)


class StudentOutput(NamedTuple):
    """Output of the student for a batch.

    Attributes:
        logits: Logits of shape (B, K).
        features: Features of shape (B, ...), by the place where they are taken. If a linear probe is used, the entry
            `probe` holds its logits (B, K).
    """

    logits: Tensor
    features: dict[str, Tensor]

    def map(self, function: Callable[[Tensor], Tensor]) -> "StudentOutput":
        """Return an output in which a function is applied to every tensor."""
        return StudentOutput(function(self.logits), {name: function(tensor) for name, tensor in self.features.items()})


class Objective(nn.Module):
    """The loss terms of a student. The training minimises their weighted sum.

    The objective computes one value per term, without the weights. If there is a linear probe or an opponent (see
    below), the objective also computes a value for each of them.

    Args:
        terms: The terms, at most one per loss.
        losses: The loss of each term, by name.
        class_weights: Weights of the classes in training, (K,), for losses on labels. If None, all classes have the
            same weight.
        unlabelled: Whether some examples have an unknown label (-1).

    Attributes:
        own: Modules that are trained together with the student, by the `own_name` of their loss. Examples are
            regressors, projections, memory banks and discriminators.
        opponents: Mapping from the name of a value to the name of its loss. The value trains an opponent: the modules
            of the loss that are trained against the student, such as a discriminator.
        regressed: Names of the losses whose regressors can run for all replicas at once. This is possible for
            regressors of embeddings, but not for regressors of maps.
        varied: For each hyperparameter that differs between replicas, the name of the buffer that holds its values. The
            keys are the name of the loss and the name of the hyperparameter. See `vary`.
        probed: Whether the student's last layer is trained as a linear probe. A probe is used if no term has a gradient
            for this layer.
    """

    class_weights: Tensor | None

    def __init__(
        self, terms: Sequence[Term], losses: Mapping[str, TermLoss], *, class_weights: Tensor | None, unlabelled: bool
    ) -> None:
        super().__init__()
        self.terms, self.losses = {term.loss: term for term in terms}, dict(losses)
        self.own = nn.ModuleDict(
            {own_name(name): loss.modules for name, loss in losses.items() if loss.modules is not None}
        )
        self.opponents = {value: term.loss for term in terms if (value := term.row.opponent)}
        self.unlabelled, self.probed = unlabelled, False
        self.varied: dict[str, dict[str, str]] = {}
        self.regressed = [name for name, loss in losses.items() if _has_stackable_regressors(loss)]
        self.register_buffer("class_weights", class_weights, persistent=False)

    def vary(self, numbers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Register hyperparameters of losses as buffers, so that each replica can have a different value.

        Args:
            numbers: Values of S replicas, (S,), by the name of the loss and of the hyperparameter.

        Returns:
            The values (S,) by the name of the buffer. Pass them to `stacked` as a part of `tensors`.
        """
        self.varied = {loss: {name: f"{loss}_{name}" for name in values} for loss, values in numbers.items()}
        rows = {self.varied[loss][name]: values[name] for loss, values in numbers.items() for name in values}
        for buffer, values in rows.items():
            self.register_buffer(buffer, values[0])
        return rows

    @property
    def stackable(self) -> bool:
        """Whether the values of several replicas can be computed at once.

        Losses that cannot be computed for all replicas as one batch must work under `torch.func.vmap`.
        """
        return all(loss.vmaps or self._is_by_example(name) for name, loss in self.losses.items())

    @property
    def names(self) -> list[str]:
        """Names of the values of the terms, the probe and the opponents, in this order.

        In eval mode, losses that need the indices of training examples are left out.
        """
        known = [name for name, term in self.terms.items() if self.training or not term.row.remembers]
        return known + [PROBE] * self.probed + [*self.opponents]

    def forward(
        self,
        output: StudentOutput,
        batch: Batch,
        names: Collection[str] | None = None,
        regressed: Mapping[str, Sequence[Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Return the unweighted values of the terms, the probe and the opponents, by name, (B,) or () each.

        If the value of a loss falls as 1 / B, the value is multiplied by B / `WEIGHT_BATCH`. A weight then has the same
        effect at every batch size.

        Args:
            output: The student's output for the images of the batch.
            batch: Batch of B examples.
            names: Names of the values to compute. If None, all values are computed.
            regressed: Outputs of a loss's regressors for the student's features, (B, D) for each place, by the name of
                the loss. If a loss has no entry, its regressors are run here.
        """
        return {
            name: self._value(name, output, batch, regressed or {}) for name in (self.names if names is None else names)
        }

    def stacked(self, tensors: Mapping[str, Tensor], output: StudentOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the means over the batch, (S,), of the objective's values for S replicas, by name.

        Args:
            tensors: Parameters and buffers of all replicas by name, (S, ...) each.
            output, batch: As for `forward`, with an additional first dimension S.
        """
        replicas = len(output.logits)
        by_example = [name for name in self.names if self._is_by_example(name)]
        # If the values of examples are independent, compute all replicas as one batch, which avoids the cost of vmap.
        regressed = {name: self._regress(name, tensors, output) for name in by_example if own_name(name) in self.own}
        joined = output.map(_join_replicas), batch.map(_join_replicas)
        values = {
            name: value.view(replicas, -1).mean(dim=1) for name, value in self(*joined, by_example, regressed).items()
        }
        rest = [name for name in self.names if name not in by_example]
        if rest:

            def means(own: dict[str, Tensor], output: StudentOutput, batch: Batch) -> dict[str, Tensor]:
                computed = functional_call(self, own, (output, batch, rest))
                return {name: value.mean() for name, value in computed.items()}

            if replicas > 1:
                values |= vmap(means)(dict(tensors), output, batch)
            else:  # for one replica, vmap would only cost time
                own = {name: tensor[0] for name, tensor in tensors.items()}
                values |= {
                    name: value[None] for name, value in means(own, output.map(first_row), batch.map(first_row)).items()
                }
        return {name: values[name] for name in self.names}

    def _regress(self, name: str, tensors: Mapping[str, Tensor], output: StudentOutput) -> list[Tensor]:
        """Run the regressors of a loss for all replicas, on the student's features (S, B, ...).

        Args:
            name: Name of the loss.
            tensors: Parameters of all replicas by name, (S, ...) each.
            output: The student's output, with a first dimension S.

        Returns:
            The regressed features (S * B, D), one tensor per place.
        """
        regressors = self.own[own_name(name)]
        assert isinstance(regressors, nn.ModuleList)
        outputs = []
        for number, (regressor, (at, _)) in enumerate(zip(regressors, self.terms[name].pairs, strict=True)):
            own, features = within(tensors, f"own.{own_name(name)}.{number}."), output.features[at]
            student = taken(self.terms[name], features.flatten(0, 1)).unflatten(0, features.shape[:2])  # (S, B, ...)
            with unrounded(student):
                regressed, _ = run_stacked(regressor, own, student.to(own["0.weight"].dtype), {})
            outputs.append(regressed.flatten(0, 1))
        return outputs

    def _is_by_example(self, name: str) -> bool:
        """Return whether the value of a loss can be computed for all replicas as one batch.

        This is possible if three conditions hold:

        - The value of an example does not depend on other examples.
        - All modules of the loss are stackable.
        - All replicas have the same hyperparameters.
        """
        if name in self.opponents or name in self.varied or (own_name(name) in self.own and name not in self.regressed):
            return False
        # With class weights or unknown labels, `_on_labels` divides by the number of known labels in the batch. The
        # values of examples then depend on the other examples.
        all_labels_count = self.class_weights is None and not self.unlabelled
        if name == PROBE:
            return all_labels_count
        return not self.losses[name].per_batch and (all_labels_count or "labels" not in self.terms[name].row.needs)

    def _value(
        self, name: str, output: StudentOutput, batch: Batch, regressed: Mapping[str, Sequence[Tensor]]
    ) -> Tensor:
        if name == PROBE:
            return self._on_labels(partial(hard_labels, output.features[PROBE]), batch)
        term = self.terms[self.opponents.get(name, name)]
        loss, row, inputs = self.losses[term.loss], term.row, self._inputs(term, output, batch)
        modules = None if loss.modules is None else self.own[own_name(term.loss)]
        if name in self.opponents:
            assert loss.opponent is not None
            return loss.opponent(inputs, modules)
        if "labels" in row.needs:
            return self._on_labels(lambda labels: loss.value(inputs._replace(labels=labels), modules), batch)
        if name in regressed:
            assert loss.compare is not None
            value = loss.compare(inputs._replace(student_features=regressed[name]))
        else:
            value = loss.value(inputs, modules)
        return value * (len(output.logits) / WEIGHT_BATCH) if row.falls_with_batch else value

    def _inputs(self, term: Term, output: StudentOutput, batch: Batch) -> LossInputs:
        varied = {name: getattr(self, buffer) for name, buffer in self.varied.get(term.loss, {}).items()}
        return LossInputs(
            output.logits,
            _teacher_logits(term, batch.teacher, varied) if "logits" in term.row.needs else _NONE,
            batch.labels,
            batch.indices,
            [taken(term, output.features[at]) for at, _ in term.pairs],
            [taken(term, batch.teacher[at]) for _, at in term.pairs],
            varied,
        )

    def _on_labels(self, loss: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Return the values (B,) of a loss on labels. Handle unknown labels, class weights and mixed images.

        - The value of an unknown label is 0. The other values are scaled up, so that the mean over the batch equals the
          mean over the examples with known labels.
        - In training, a value is multiplied by the weight of its class.
        - A mixed image has two labels. Its value is the mean over both labels, weighted by the shares of the images.

        Args:
            loss: Function that returns the values (B,) of the loss for labels (B,).
            batch: Batch of B examples.
        """
        if self.class_weights is None and not self.unlabelled:
            return _mixed(loss, batch)

        def weighted(labels: Tensor) -> Tensor:
            classes = labels.clamp(min=0)
            value = loss(classes) * (labels >= 0)
            return value * self.class_weights[classes] if self.class_weights is not None and self.training else value

        known = _mixed(lambda labels: (labels >= 0).float(), batch)
        return _mixed(weighted, batch) * (len(batch.labels) / known.sum().clamp(min=1e-6))


def own_name(loss: str) -> str:
    """Return the name of a loss's module in `Objective.own`. Torch allows no dots in names, so they are replaced."""
    return loss.replace(".", "/")


def within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by their names without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def first_row(tensor: Tensor) -> Tensor:
    """Return the first replica's row of a tensor (S, ...)."""
    return tensor[0]


def _join_replicas(tensor: Tensor) -> Tensor:
    return tensor.flatten(0, 1)  # (S * B, ...)


def _has_stackable_regressors(loss: TermLoss) -> bool:
    return (
        loss.compare is not None
        and isinstance(loss.modules, nn.ModuleList)
        and all(isinstance(each, HintRegressor) and is_stackable(nn.Sequential(*each)) for each in loss.modules)
    )


def _mixed(loss: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    """Return the values (B,) of a loss. The value of a mixed image is the mean over both labels, weighted by share."""
    if not batch.mix:
        return loss(batch.labels)
    return batch.mix["share"] * loss(batch.labels) + (1 - batch.mix["share"]) * loss(batch.mix["labels"])


def _teacher_logits(term: Term, teacher: Mapping[str, Tensor], varied: Mapping[str, Tensor]) -> Tensor:
    """Return the teacher's logits in the form that the loss of a term takes, (B, K) or (B, M, K).

    The logits of an ensemble, (B, M, K), are combined as `Loss.ensemble` in the catalogue specifies. For `members`,
    they are returned unchanged. For `mean`, e.g. in logit regression, the result is the mean of the members' logits.
    The mean corresponds to softened distributions at a high temperature.

    Args:
        term: The term.
        teacher: The teacher's tensors, by name.
        varied: Hyperparameters of the loss that differ between replicas, by name.
    """
    logits, ensemble = teacher[LOGITS], term.row.ensemble
    if logits.dim() == 2 or ensemble == "members":
        return logits
    if ensemble == "mean":
        return logits.mean(dim=1)
    temperature = varied.get("temperature", float(term.hyperparameters["temperature"]))
    return ensemble_logits(logits, temperature=temperature)
