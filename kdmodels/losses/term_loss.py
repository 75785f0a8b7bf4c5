"""The interface through which the training objective builds and calls every loss.

The functions and modules of this package have the signatures of their papers. A builder adapts a function or module to
this interface, so that the objective needs no special case for any loss.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
"""Shape of one example's features: (C, H, W) or (D,)."""


class LossInputs(NamedTuple):
    """Tensors that a loss can compare in a batch of B examples.

    A place is an input or output of a module of the network, where a loss takes features.

    Attributes:
        student_logits: Logits of shape (B, K).
        teacher_logits: Logits of shape (B, K), or (B, M, K) if the loss itself combines the M members of an ensemble.
            The tensor is empty if the loss's row in the catalogue does not list logits as an input.
        labels: Class indices of shape (B,).
        indices: Indices of the examples in their split, (B,).
        student_features, teacher_features: Features of shape (B, ...), one tensor per place.
        varied: Hyperparameters that differ between replicas, as scalar tensors by name. These tensors replace the
            hyperparameters of the same names in the term.
    """

    student_logits: Tensor
    teacher_logits: Tensor
    labels: Tensor
    indices: Tensor
    student_features: Sequence[Tensor]
    teacher_features: Sequence[Tensor]
    varied: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class LossSetting:
    """Settings from which a builder builds the loss of a term.

    Attributes:
        hyperparameters: All hyperparameters of the term, by name.
        student_shapes, teacher_shapes: Shapes of one example's features, one shape per place.
        classes: Number of classes, K.
        labels: Labels of the training split, (N,). -1 marks an unknown label.
    """

    hyperparameters: Mapping[str, float | str]
    student_shapes: Sequence[Shape]
    teacher_shapes: Sequence[Shape]
    classes: int
    labels: Tensor

    def number(self, name: str) -> float:
        """Return the value of a numeric hyperparameter."""
        return float(self.hyperparameters[name])

    @property
    def same_channels(self) -> bool:
        """Whether student and teacher have the same number of channels at every place."""
        return [shape[0] for shape in self.student_shapes] == [shape[0] for shape in self.teacher_shapes]

    @property
    def pairs(self) -> Iterable[tuple[Shape, Shape]]:
        """The student's and the teacher's shape at each place."""
        return zip(self.student_shapes, self.teacher_shapes, strict=True)


@dataclass(frozen=True)
class TermLoss:
    """The functions and modules that compute the loss of one term of an objective.

    Attributes:
        value: Function of `LossInputs` and `modules` that returns one value per example (B,), or one value per
            batch ().
        modules: Modules that are trained and checkpointed with the student, but are not part of the exported model.
            `None` if the loss has no modules.
        opponent: Function that takes the same arguments as `value` and returns the loss of `modules`. A separate
            optimizer trains the modules, such as a discriminator, with this loss. `None` if the modules are trained
            with `value`, or if there are none.
        compare: Function that returns the same value as `value` without running `modules`. The argument is
            `LossInputs`, in which the regressors have already mapped the student's features. The objective runs the
            regressors of several seeds at once before it calls this function. `None` if `modules` are not one regressor
            per place.
        per_batch: Whether the loss compares the examples of a batch with each other. `build_loss` sets this to True
            if the row of the loss in the catalogue says so.
        vmaps: Whether `value` works under `torch.func.vmap`.
    """

    value: Callable[..., Tensor]
    modules: nn.Module | None = None
    opponent: Callable[..., Tensor] | None = None
    compare: Callable[[LossInputs], Tensor] | None = None
    per_batch: bool = False
    vmaps: bool = True


Builder = Callable[[LossSetting], TermLoss]
"""A function that builds a term's loss. It raises ValueError if the features cannot be compared."""


def _hyperparameters(setting: LossSetting, inputs: LossInputs) -> dict[str, float | str | Tensor]:
    """Return the hyperparameters of a loss, by name. Values that differ between replicas replace the term's values."""
    return {**setting.hyperparameters, **inputs.varied}


def on_labels(function: Callable[..., Tensor]) -> Builder:
    """Return the builder of a loss `function(student_logits, labels, **hyperparameters)`."""
    return lambda setting: TermLoss(
        lambda inputs, _: function(inputs.student_logits, inputs.labels, **_hyperparameters(setting, inputs))
    )


def on_logits(function: Callable[..., Tensor]) -> Builder:
    """Return the builder of a loss `function(student_logits, teacher_logits, **hyperparameters)`."""
    return lambda setting: TermLoss(
        lambda inputs, _: function(inputs.student_logits, inputs.teacher_logits, **_hyperparameters(setting, inputs))
    )


def on_logits_and_labels(function: Callable[..., Tensor]) -> Builder:
    """Return the builder of a loss `function(student_logits, teacher_logits, labels, **hyperparameters)`."""
    return lambda setting: TermLoss(
        lambda inputs, _: function(
            inputs.student_logits,
            inputs.teacher_logits,
            inputs.labels,
            **_hyperparameters(setting, inputs),
        )
    )


def on_features(function: Callable[..., Tensor]) -> Builder:
    """Return the builder of a loss `function(student_features, teacher_features, **hyperparameters)`.

    The function is called once for each place where features are taken. The loss is the sum of the values.
    """
    return lambda setting: TermLoss(
        lambda inputs, _: total(
            function(student, teacher, **setting.hyperparameters)
            for student, teacher in zip(inputs.student_features, inputs.teacher_features, strict=True)
        )
    )


def on_all_places(function: Callable[..., Tensor]) -> Builder:
    """Return the builder of a loss `function(student_features, teacher_features, **hyperparameters)`.

    The features of all places are passed as two lists, one for the student and one for the teacher.
    """
    return lambda setting: TermLoss(
        lambda inputs, _: function(inputs.student_features, inputs.teacher_features, **setting.hyperparameters)
    )


def on_modules(modules: Iterable[nn.Module]) -> TermLoss:
    """Return a loss that is the sum of the values of one module per place.

    Each module is called with the student's and the teacher's features of its place.

    Args:
        modules: One module per place, in the order of the places.
    """
    return TermLoss(_sum_of_modules, nn.ModuleList(modules))


def _sum_of_modules(inputs: LossInputs, modules: nn.ModuleList) -> Tensor:
    places = zip(modules, inputs.student_features, inputs.teacher_features, strict=True)
    return total(module(student, teacher) for module, student, teacher in places)


def total(values: Iterable[Tensor]) -> Tensor:
    """Return the sum of tensors of equal shape."""
    return torch.stack(list(values)).sum(dim=0)
