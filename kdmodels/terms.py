"""A weighted loss of an objective: the experiment file's `terms`."""

from typing import Any

from pydantic import Field, model_validator

from kdmodels.catalogue import LOSSES
from kdmodels.errors import allowed
from kdmodels.schema import Part, mistake, show

MOST_PLACES = 100  # of one term


class TapPair(Part):
    """Where features are taken when the place has another name in the student than in the teacher."""

    student: str = Field(description="A place in the student: first, middle, deepest, last, or a module's dotted name.")
    teacher: str = Field(description="A place in the teacher: first, middle, deepest, last, or a module's dotted name.")


class Term(Part):
    """One weighted loss of a variant: its batch mean is multiplied by its weight.

    Also written `hard_labels`, `{hard_labels: 0.5}` or `{soft_targets: {weight: 0.5, temperature: 2}}`.

    >>> Term.model_validate({"soft_targets": {"weight": 0.5}}).hyperparameters
    {'temperature': 4.0}
    """

    loss: str = Field(description="A loss of kdmodels.losses.", json_schema_extra={"enum": list(LOSSES)})
    weight: float = Field(default=1.0, gt=0, description="Multiplies the loss's batch mean.")
    warmup: float = Field(default=0.0, ge=0, lt=1, description="Share of the training in which the weight rises to it.")
    cosine: bool = Field(default=False, description="After the warm-up the weight falls to 0 along a cosine.")
    at: str | TapPair | list[str | TapPair] | None = Field(
        default=None,
        description="Where features are taken: first, middle, deepest, last, a module's dotted name, "
        "{student, teacher}, or a list of these. Null for a loss of labels or logits.",
    )
    hyperparameters: dict[str, float | str] = Field(default={}, description="The loss's own, such as temperature.")

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
            "at": tapped_places(name, raw.get("at")),
            "hyperparameters": _hyperparameters(name, raw.get("hyperparameters", {})),
        }

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The (student, teacher) places where features are taken; none for a loss of labels or logits."""
        places = [] if self.at is None else self.at if isinstance(self.at, list) else [self.at]
        return [(at, at) if isinstance(at, str) else (at.student, at.teacher) for at in places]


OWN = ("weight", "warmup", "cosine", "at")
"""A term's fields that are not the loss's own hyperparameters."""


def _spelled_short(name: Any, value: Any) -> dict[str, Any]:
    if name not in LOSSES:
        raise mistake(f"{show(name)} is not a loss; {allowed(str(name), LOSSES)}")
    if not isinstance(value, dict):
        return {"loss": name, "weight": value}
    own = {key: inner for key, inner in value.items() if key in OWN}
    return {"loss": name, **own, "hyperparameters": {key: value[key] for key in value if key not in own}}


def tapped_places(name: str, at: Any) -> Any:
    """Where a loss takes its features, in the normal form of `Term.at`.

    Raises:
        PydanticCustomError: it takes none, or these are no places.
    """
    loss = LOSSES[name]
    if loss.needs != "features":
        if at is not None:
            takers = ", ".join(other for other in LOSSES if LOSSES[other].needs == "features")
            raise mistake(f"{name} takes no features; allowed with: {takers}", "at")
        return None
    if at is None:
        return list(loss.places) if len(loss.places) > 1 else loss.places[0]
    several = at if isinstance(at, list) else [at]
    if len(several) > MOST_PLACES:
        raise mistake(f"names {len(several):,} places; allowed: at most {MOST_PLACES}", "at")
    for place in several:
        if not isinstance(place, TapPair) and not (isinstance(place, str) and place) and not _is_pair(place):
            raise mistake(f"{show(place)} is no place; allowed: {PLACES}", "at")
    if any(place in several[:number] for number, place in enumerate(several)):
        raise mistake(f"{show(at)} names a place twice; allowed: each once", "at")
    if not several:
        raise mistake(f"{show(at)} names no place; allowed: {PLACES}", "at")
    return at


PLACES = "first, middle, deepest, last, a module's dotted name, {student: NAME, teacher: NAME}, a list of these"


def _is_pair(place: object) -> bool:
    return (
        isinstance(place, dict)
        and set(place) == {"student", "teacher"}
        and all(isinstance(name, str) and name for name in place.values())
    )


def _hyperparameters(name: str, given: Any) -> dict[str, float | str]:
    if not isinstance(given, dict):
        raise mistake(f"{show(given)} is not a mapping; {allowed('', LOSSES[name].hyperparameters)}", "hyperparameters")
    known = LOSSES[name].hyperparameters
    for key, value in given.items():
        if key not in known:
            own = [field for field in OWN if field != "at" or LOSSES[name].needs == "features"]
            raise mistake(f"{name} has no {show(key)}; {allowed(str(key), [*known, *own])}", key)
        if problem := known[key].problem(value):
            raise mistake(problem, key)
    values = ((key, given.get(key, known[key].default)) for key in known)
    return {key: value if isinstance(value, str) else float(value) for key, value in values if value is not None}
