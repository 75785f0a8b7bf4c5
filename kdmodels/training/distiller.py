"""A student joined with the terms of its objective: one forward pass gives every term's value."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from torch import Tensor, nn

from kdmodels import losses
from kdmodels.errors import UserError
from kdmodels.experiment import Term
from kdmodels.knowledge import LOGITS
from kdmodels.networks import Tap, find_tap
from kdmodels.objectives import LOSSES


def taps(term: Term) -> list[tuple[str, str]]:
    """The (student, teacher) places where a term takes features; none for a term on logits or labels."""
    if LOSSES[term.loss].needs != "features":
        return []
    places = term.at if isinstance(term.at, list) else [term.at or "middle"]
    return [(at, at) if isinstance(at, str) else (at.student, at.teacher) for at in places]


class Distiller(nn.Module):
    """The student, and what its objective owns beside it: a regressor for each pair of tapped features.

    Args:
        student: takes images (B, C, H, W), gives logits (B, K).
        terms: the objective, a weighted sum.
        input_shape: (C, H, W).
        teacher_shapes: the shape of one example's features at each tapped place of the teacher.

    Raises:
        UserError: a tapped place does not exist, or its features can't be matched with the teacher's.
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term],
        input_shape: tuple[int, ...],
        teacher_shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        super().__init__()
        self.student = student
        self.terms = {term.loss: term for term in terms}
        self.regressors = nn.ModuleDict()
        self.student_taps: dict[str, Tap] = {}
        for name, term in self.terms.items():
            for number, (at, teacher_at) in enumerate(taps(term)):
                tap = find_tap(student, at)
                try:
                    regressor = losses.HintRegressor(tap.shape(student, input_shape), teacher_shapes[teacher_at])
                except ValueError as error:
                    raise UserError(f"{name} at {at}: {error}") from error
                self.student_taps[at] = tap
                self.regressors[_pair(name, number)] = regressor

    def forward(
        self, images: Tensor, labels: Tensor, teacher: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, K), and each term's unweighted values (B,).

        Args:
            teacher: `logits` (B, K) and features (B, ...) by the name they are tapped at, as far as the terms need.
        """
        with ExitStack() as stack:
            caught = {at: stack.enter_context(tap.on(self.student)) for at, tap in self.student_taps.items()}
            logits = self.student(images)
        features = {at: tensors[0] for at, tensors in caught.items()}
        return logits, {
            name: self._value(name, term, logits, features, labels, teacher) for name, term in self.terms.items()
        }

    def _value(
        self,
        name: str,
        term: Term,
        logits: Tensor,
        features: Mapping[str, Tensor],
        labels: Tensor,
        teacher: Mapping[str, Tensor],
    ) -> Tensor:
        loss = getattr(losses, term.loss)
        needs = LOSSES[term.loss].needs
        if needs == "labels":
            return loss(logits, labels, **term.hyperparameters)
        if needs == "logits":
            return loss(logits, teacher[LOGITS], **term.hyperparameters)
        pairs = [
            loss(self.regressors[_pair(name, number)](features[at]), teacher[teacher_at], **term.hyperparameters)
            for number, (at, teacher_at) in enumerate(taps(term))
        ]
        return sum(pairs[1:], start=pairs[0])


def _pair(name: str, number: int) -> str:
    return f"{name}/{number}".replace(".", "_")
