"""What an objective owns beside the student: built from the real shapes, trained with it, no part of its model."""

from collections.abc import Sequence

from torch import Tensor, nn

from kdmodels import losses
from kdmodels.catalogue import LOSSES
from kdmodels.terms import Term

Shape = tuple[int, ...]
"""Of one example's features: (C, H, W) or (D,)."""


def own_modules(term: Term, pairs: Sequence[tuple[Shape, Shape]], *, classes: int, labels: Tensor) -> nn.Module | None:
    """The modules of one term; None where it has none.

    Args:
        pairs: the shapes of the student's and of the teacher's features at each place, as `taken_shape` gives them.
        classes: K.
        labels: (N,), those of the training split; -1: not known.

    Returns:
        For a loss on features a `ModuleList` with one module a place, except for `review`, which joins its places.

    Raises:
        ValueError: the features can't be compared.
    """
    numbers = term.hyperparameters
    match term.loss:
        case "adversarial":
            return losses.Adversarial(classes, width=int(numbers["width"]))
        case "review":
            mine, theirs = zip(*pairs, strict=True)
            width = int(numbers["width"]) if "width" in numbers else None
            return losses.ReviewFusion(list(mine), list(theirs), width=width)
        case "hint":
            return nn.ModuleList(losses.HintRegressor(*pair) for pair in pairs)
        case "cosine_features" | "flow_of_solution" if any(mine[0] != theirs[0] for mine, theirs in pairs):
            return nn.ModuleList(losses.HintRegressor(*pair) for pair in pairs)
        case "variational_information":
            return nn.ModuleList(losses.VariationalInformation(*pair) for pair in pairs)
        case "simple_recipe":
            return nn.ModuleList(losses.SimpleRecipe(mine[0], theirs[0]) for mine, theirs in pairs)
        case "contrastive_representation":
            return nn.ModuleList(
                losses.ContrastiveRepresentation(
                    mine[0],
                    theirs[0],
                    labels,
                    width=int(numbers["width"]),
                    negatives=int(numbers["negatives"]),
                    temperature=float(numbers["temperature"]),
                    momentum=float(numbers["momentum"]),
                )
                for mine, theirs in pairs
            )
        case _:
            return None


def taken(loss: str, features: Tensor) -> Tensor:
    """Features as a loss takes them: embeddings are maps (B, C, H, W) averaged over their positions."""
    return features.mean(dim=(2, 3)) if LOSSES[loss].takes == "embeddings" and features.ndim == 4 else features


def taken_shape(loss: str, shape: Shape) -> Shape:
    """The shape of one example's features after `taken`."""
    return shape[:1] if LOSSES[loss].takes == "embeddings" else shape


def matched(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """A pair in one size: of two maps the larger is pooled."""
    return losses.match_size(student, teacher) if student.ndim == 4 else (student, teacher)
