"""The table of loss variants: name -> weighted terms -> paper. A row is all that a new variant takes."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from kdmodels.errors import allowed
from kdmodels.schema import Part, mistake, show


@dataclass(frozen=True)
class Hyperparameter:
    """A number that a loss takes: its default and the interval that it must lie in."""

    default: float
    low: float
    high: float = float("inf")
    low_inclusive: bool = False

    def __str__(self) -> str:
        """The interval in words.

        >>> str(Hyperparameter(0.1, low=0, high=1, low_inclusive=True))
        '0 or more and below 1'
        """
        low = f"{self.low:g} or more" if self.low_inclusive else f"above {self.low:g}"
        return low if self.high == float("inf") else f"{low} and below {self.high:g}"

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, in words; None if nothing.

        >>> Hyperparameter(4.0, low=0).problem(-1)
        '-1 is out of range (allowed: above 0)'
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{show(value)} is not a number (allowed: {self})"
        above = self.low <= value if self.low_inclusive else self.low < value
        if above and value < self.high and value <= sys.float_info.max:
            return None
        return f"{show(value)} is out of range (allowed: {self})"


@dataclass(frozen=True)
class Loss:
    """What a loss of `kdmodels.losses` compares, and the numbers that it takes."""

    needs: Literal["labels", "logits", "features"]
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)


LOSSES: Mapping[str, Loss] = {
    "hard_labels": Loss("labels"),
    "label_smoothing": Loss("labels", {"epsilon": Hyperparameter(0.1, low=0, high=1, low_inclusive=True)}),
    "soft_targets": Loss("logits", {"temperature": Hyperparameter(4.0, low=0)}),
    "logit_regression": Loss("logits"),
    "hint": Loss("features"),
}


class TapPair(Part):
    """Where features are taken when the place has another name in the student than in the teacher."""

    student: str = Field(description="A module's dotted name in the student, or middle, or last.")
    teacher: str = Field(description="A module's dotted name in the teacher, or middle, or last.")


class Term(Part):
    """One weighted loss of a variant: its batch mean is multiplied by its weight.

    Also written `hard_labels`, `{hard_labels: 0.5}` or `{soft_targets: {weight: 0.5, temperature: 2}}`.

    >>> Term.model_validate({"soft_targets": {"weight": 0.5}}).hyperparameters
    {'temperature': 4.0}
    """

    loss: str = Field(description="A loss of kdmodels.losses.", json_schema_extra={"enum": list(LOSSES)})
    weight: float = Field(default=1.0, gt=0, description="Multiplies the loss's batch mean.")
    at: str | TapPair | list[str | TapPair] | None = Field(
        default=None,
        description="Where features are taken: middle, last, a module's dotted name, {student, teacher}, "
        "or a list of these. Null for a loss of labels or logits.",
    )
    hyperparameters: dict[str, float] = Field(default={}, description="The loss's own numbers, such as temperature.")

    @model_validator(mode="before")
    @classmethod
    def _normal_form(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raw = {"loss": raw}
        elif isinstance(raw, dict) and "loss" not in raw and len(raw) == 1:
            raw = _spelled_short(*next(iter(raw.items())))
        if not isinstance(raw, dict) or "loss" not in raw:
            return raw
        name = raw["loss"]
        if not isinstance(name, str) or name not in LOSSES:
            raise mistake(f"{show(name)} is not a loss; {allowed(str(name), LOSSES)}")
        return raw | {
            "at": _places(name, raw.get("at")),
            "hyperparameters": _hyperparameters(name, raw.get("hyperparameters", {})),
        }


def _spelled_short(name: Any, value: Any) -> dict[str, Any]:
    if name not in LOSSES:
        raise mistake(f"{show(name)} is not a loss; {allowed(str(name), LOSSES)}")
    if not isinstance(value, dict):
        return {"loss": name, "weight": value}
    own = {key: inner for key, inner in value.items() if key in ("weight", "at")}
    return {"loss": name, **own, "hyperparameters": {key: value[key] for key in value if key not in own}}


def _places(name: str, at: Any) -> Any:
    if LOSSES[name].needs != "features":
        if at is not None:
            takers = ", ".join(loss for loss in LOSSES if LOSSES[loss].needs == "features")
            raise mistake(f"{name} takes no features; allowed with: {takers}", "at")
        return None
    places = at if isinstance(at, list) else ["middle" if at is None else at]
    for place in places:
        if not isinstance(place, TapPair) and not (isinstance(place, str) and place) and not _is_pair(place):
            raise mistake(f"{show(place)} is no place; allowed: {_PLACES}", "at")
    if not places:
        raise mistake(f"{show(at)} names no place; allowed: {_PLACES}", "at")
    return "middle" if at is None else at


_PLACES = "middle, last, a module's dotted name, {student: NAME, teacher: NAME}, a list of these"


def _is_pair(place: object) -> bool:
    return (
        isinstance(place, dict)
        and set(place) == {"student", "teacher"}
        and all(isinstance(name, str) and name for name in place.values())
    )


def _hyperparameters(name: str, given: Any) -> dict[str, float]:
    if not isinstance(given, dict):
        raise mistake(f"{show(given)} is not a mapping; {allowed('', LOSSES[name].hyperparameters)}", "hyperparameters")
    known = LOSSES[name].hyperparameters
    for key, value in given.items():
        if key not in known:
            fields = [*known, "weight", *(["at"] if LOSSES[name].needs == "features" else [])]
            raise mistake(f"{name} has no {show(key)}; {allowed(str(key), fields)}", key)
        if problem := known[key].problem(value):
            raise mistake(problem, key)
    return {key: float(given.get(key, known[key].default)) for key in known}


@dataclass(frozen=True)
class Preset:
    """A named variant: its weighted terms and where they come from."""

    terms: tuple[Term, ...]
    paper: str


CONTROL = "hard-labels"
"""The same student without a teacher: every verdict compares with it."""

_HINT = Term(loss="hint", weight=100, at="middle")
_KD = (Term(loss="hard_labels", weight=0.1), Term(loss="soft_targets", weight=0.9, hyperparameters={"temperature": 4}))

PRESETS: Mapping[str, Preset] = {
    CONTROL: Preset((Term(loss="hard_labels"),), "none: the control"),
    "label-smoothing": Preset((Term(loss="label_smoothing"),), "Szegedy et al. 2016"),
    "kd": Preset(_KD, "Hinton, Vinyals, Dean 2015"),
    "logit-regression": Preset((Term(loss="logit_regression"),), "Ba, Caruana 2014"),
    "hint": Preset((Term(loss="hard_labels"), _HINT), "Romero et al. 2015"),
    "kd+hint": Preset((*_KD, _HINT), "Hinton, Vinyals, Dean 2015; Romero et al. 2015"),
}
