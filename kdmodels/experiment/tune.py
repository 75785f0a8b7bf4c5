"""The `tune` field of the experiment file: the search for hyperparameters, with the same budget for every variant.

An axis of a search is one number that the trials change. Every axis is logarithmic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field, field_validator

from kdmodels.errors import allowed
from kdmodels.experiment.loss import Hyperparameter
from kdmodels.experiment.recipe import Recipe
from kdmodels.experiment.schema import Part, mistake, show
from kdmodels.experiment.terms import Calibrated, Term

LR = "lr"
FACTORS = (0.1, 10.0)
"""The default range of a factor of the recipe's learning rate, and of a factor of a term's weight."""

Values = dict[str, float]
"""The values of one trial, by the name of the axis."""

Trained = tuple[Sequence[Term], Recipe]
"""The loss terms and the training recipe of a student."""


class Tune(Part):
    """The search for hyperparameters. Every variant, including the control, gets the same number of trials."""

    trials: int = Field(default=12, ge=2, le=1_000, description="Number of trials of each variant.")
    epochs: int | None = Field(
        default=None, ge=1, description="Number of epochs of a trial. Default, and largest value: the student's epochs."
    )
    space: dict[str, list[float]] = Field(
        default={},
        description="Ranges that replace the default ranges: lr, a hyperparameter such as temperature, or LOSS.weight, "
        "a factor of the term's weight, e.g. {lr: [0.0001, 0.1], temperature: [1, 8], soft_targets.weight: [0.1, 10]}.",
    )

    @field_validator("space", mode="before")
    @classmethod
    def _parse_ranges(cls, raw: object) -> object:
        if not isinstance(raw, dict):
            return raw
        for name, ends in raw.items():
            is_range = isinstance(ends, list) and len(ends) == 2 and all(map(_is_positive, ends)) and ends[0] < ends[1]
            if not is_range:
                raise mistake(f"expected two positive numbers, the smaller one first, got {show(ends)}", str(name))
        return {name: [float(end) for end in ends] for name, ends in raw.items()}

    def check(self, variants: Sequence[Trained]) -> None:
        """Check `space` and `epochs` against the variants of an experiment.

        Args:
            variants: The terms and the student's recipe for each variant.

        Raises:
            PydanticCustomError: One of these conditions holds:

                - A name in `space` is not the name of a tunable number of any variant.
                - A bound of a range is not an allowed value.
                - `epochs` is not above the warm-up epochs of a student.
                - `epochs` is above the epochs of a student.
        """
        known = _names(variants)
        for name, ends in self.space.items():
            if name not in known:
                raise mistake(
                    f"no variant has a hyperparameter {show(name)} to tune. {allowed(name, known)}",
                    "tune",
                    "space",
                    name,
                )
            for number in _numbers_of(variants):
                if name in number.names and (problem := number.problem(ends)):
                    raise mistake(problem, "tune", "space", name)
        warmup = max(recipe.warmup for _, recipe in variants)
        if self.epochs and self.epochs <= warmup:
            rule = f"expected more epochs than the {warmup} warm-up epochs of the schedule"
            raise mistake(f"{rule}, got {self.epochs}", "tune", "epochs")
        fewest = min(recipe.epochs for _, recipe in variants)
        if self.epochs and self.epochs > fewest:
            rule = f"expected at most {fewest}, the epochs of the student, got {self.epochs}"
            raise mistake(rule, "tune", "epochs")

    def space_of(self, variants: Sequence[Trained]) -> dict[str, list[float]]:
        """Return the entries of `space` that apply to at least one of these variants."""
        known = _names(variants)
        return {name: ends for name, ends in self.space.items() if name in known}


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


@dataclass(frozen=True)
class Axis:
    """One number that the trials of a variant change, on a logarithmic scale.

    Attributes:
        name: `lr`, `LOSS.weight` for a factor of the term's weight, or `LOSS.HYPERPARAMETER`.
        low, high: The bounds of the range, both positive.
        value: The value in the experiment file. For `LOSS.weight`, which is a factor, the value is 1.
    """

    name: str
    low: float
    high: float
    value: float


class _Number(NamedTuple):
    """A number of a variant that can be tuned.

    Attributes:
        name: The name of the axis, as in `Axis`.
        range: The default range.
        value: The value in the experiment file. For `LOSS.weight`, which is a factor, the value is 1.
        kind: The hyperparameter. `None` for the learning rate and for the factor of a weight.
    """

    name: str
    range: tuple[float, float]
    value: float
    kind: Hyperparameter | None = None

    @property
    def names(self) -> tuple[str, str]:
        """The two names of the number in `space`: with the loss, e.g. `hint.weight`, and without, e.g. `weight`."""
        return self.name, self.name.rpartition(".")[2]

    def problem(self, ends: Sequence[float]) -> str | None:
        """Return a description of the problem with the bounds of a range. Return `None` if both bounds are allowed."""
        return next(filter(None, map(self.kind.problem, ends)), None) if self.kind else None


def axes(terms: Sequence[Term], recipe: Recipe, space: Mapping[str, Sequence[float]]) -> list[Axis]:
    """Return the axes of the search of a variant. The first axis is the learning rate.

    Args:
        terms: The terms of the variant.
        recipe: The recipe of the variant's student.
        space: The ranges that replace the default ranges. A name without a loss, e.g. `temperature`, sets the range
            for all terms with this hyperparameter, except those for which `LOSS.HYPERPARAMETER` is in `space` too.

    >>> kd = [Term.model_validate({"hard_labels": 0.1}), Term.model_validate({"soft_targets": 0.9})]
    >>> for axis in axes(kd, Recipe(epochs=1), {"temperature": [1, 8]}):
    ...     print(axis)
    Axis(name='lr', low=0.0001, high=0.01, value=0.001)
    Axis(name='soft_targets.weight', low=0.1, high=10.0, value=1.0)
    Axis(name='soft_targets.temperature', low=1, high=8, value=4.0)
    """
    axes_of_variant = []
    for number in _numbers(terms, recipe):
        low, high = next((space[name] for name in number.names if name in space), number.range)
        axes_of_variant.append(Axis(number.name, low, high, number.value))
    return axes_of_variant


def tuned_terms(terms: Sequence[Term], values: Mapping[str, float]) -> list[Term]:
    """Return the terms of a variant with the values of a trial.

    The value of `LOSS.weight` multiplies the weight of the term. If the weight is calibrated, the value multiplies the
    ratio in `auto`. The calibration then uses the hyperparameters of the trial.

    Args:
        terms: The terms of the variant.
        values: The values of the trial, by the name of the axis.

    >>> (term,) = tuned_terms([Term(loss="soft_targets", weight=0.5)], {"lr": 0.1, "soft_targets.weight": 3})
    >>> term.weight
    1.5
    """
    return [_with_values(term, values) for term in terms]


def _with_values(term: Term, values: Mapping[str, float]) -> Term:
    of_term = {name.rpartition(".")[2]: value for name, value in values.items() if name.rpartition(".")[0] == term.loss}
    factor, weight = of_term.pop("weight", 1.0), term.weight
    weight = Calibrated(auto=weight.auto * factor) if isinstance(weight, Calibrated) else weight * factor
    return term.model_copy(update={"weight": weight, "hyperparameters": {**term.hyperparameters, **of_term}})


def _numbers_of(variants: Sequence[Trained]) -> list[_Number]:
    return [number for terms, recipe in variants for number in _numbers(terms, recipe)]


def _names(variants: Sequence[Trained]) -> list[str]:
    """Return the names that `space` can contain. Names without a loss come first."""
    numbers = [number.names for number in _numbers_of(variants)]
    return list(dict.fromkeys([*(short for _, short in numbers), *(name for name, _ in numbers)]))


def _numbers(terms: Sequence[Term], recipe: Recipe) -> list[_Number]:
    numbers = [_Number(LR, (recipe.lr * FACTORS[0], recipe.lr * FACTORS[1]), recipe.lr)]
    for term in terms:
        loss = term.row
        # The weight of a variant's only term is not tuned, because it would act like the learning rate.
        if loss.needs != "labels" and len(terms) > 1:
            numbers.append(_Number(f"{term.loss}.weight", FACTORS, 1.0))
        for name, kind in loss.hyperparameters.items():
            if isinstance(kind, Hyperparameter) and kind.tune:
                numbers.append(_Number(f"{term.loss}.{name}", kind.tune, float(term.hyperparameters[name]), kind))
    return numbers
