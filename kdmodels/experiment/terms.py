"""The `terms` field of the experiment file: the weighted losses of a variant. `catalogue.py` lists the losses."""

import sys
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from kdmodels.errors import allowed
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.loss import Argument, Loss
from kdmodels.experiment.schema import Part, mistake, show
from kdmodels.experiment.user_losses import is_users, read_loss, row_of

MOST_PLACES = 100  # per term


class TapPair(Part):
    """A pair of places where features are taken, one in the student and one in the teacher."""

    student: str = Field(description="Place in the student: first, middle, deepest, last, or a module's dotted name.")
    teacher: str = Field(description="Place in the teacher: first, middle, deepest, last, or a module's dotted name.")


class Calibrated(Part):
    """A weight that is chosen at the start of the training, from the size of the term's gradient.

    `kdmodels.training.calibration` describes the choice. In an experiment file, `auto` is short for `{auto: 1}`.
    """

    auto: float = Field(
        gt=0,
        description="Norm of the weighted gradient of all calibrated terms together, relative to the norm of the "
        "gradient of cross entropy.",
    )


WEIGHTS = "a number above 0, auto, or {auto: RATIO}"


def weight_problem(value: object) -> str | None:
    """Return a description of the problem with the weight of a term. Return `None` if the weight is allowed."""
    number = value.get("auto") if isinstance(value, dict) and set(value) == {"auto"} else value
    if value == "auto" or isinstance(value, Calibrated):
        return None
    if isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= sys.float_info.max:
        return None
    return f"expected {WEIGHTS}, got {show(value)}"


def weight_in_words(weight: float | Calibrated) -> str:
    """Return the weight of a term as text for tables.

    >>> weight_in_words(0.5), weight_in_words(Calibrated(auto=1)), weight_in_words(Calibrated(auto=0.3))
    ('0.5', 'auto', 'auto 0.3')
    """
    if not isinstance(weight, Calibrated):
        return f"{weight:g}"
    return "auto" if weight.auto == 1 else f"auto {weight.auto:g}"


class Term(Part):
    """A loss with a weight, as a part of a variant. The weight multiplies the mean of the loss over the batch.

    An experiment file can use three shorthands:

    - the name of a loss, with weight 1, e.g. `hard_labels`
    - the name and the weight, e.g. `{hard_labels: 0.5}` or `{hint: auto}`
    - the name and several fields or hyperparameters, e.g. `{soft_targets: {weight: 0.5, temperature: 2}}`

    >>> Term.model_validate({"soft_targets": {"weight": 0.5}}).hyperparameters
    {'temperature': 4.0}
    """

    loss: str = Field(
        description="Loss of the catalogue, or your own: module:function or module:Class.",
        json_schema_extra={"anyOf": [{"enum": list(LOSSES)}, {"pattern": "^[^:]+:[^:]+$"}]},
    )
    weight: Annotated[float, Field(gt=0)] | Calibrated = Field(
        default=1.0,
        description="Factor of the loss's mean over the batch: a number, or auto for a loss that uses the teacher. "
        "With auto, the factor is chosen so that the gradient of the term is as large as that of cross entropy.",
    )
    warmup: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the training during which the weight rises from 0."
    )
    cosine: bool = Field(default=False, description="Whether the weight falls to 0 along a cosine after the warm-up.")
    at: str | TapPair | list[str | TapPair] | None = Field(
        default=None,
        description="Places where features are taken: first, middle, deepest, last, a module's dotted name, "
        "{student: NAME, teacher: NAME}, or a list of these. Null for a loss of labels or logits.",
    )
    hyperparameters: dict[str, bool | int | float | str] = Field(
        default={}, description="Hyperparameters of the loss, such as temperature."
    )
    inputs: list[str] | None = Field(
        default=None,
        exclude_if=lambda inputs: inputs is None,
        description="Positional arguments of a loss of your own. Set from its signature.",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthand(cls, raw: object) -> object:
        if isinstance(raw, str):
            raw = {"loss": raw}
        elif isinstance(raw, dict) and "loss" not in raw and len(raw) == 1:
            ((name, value),) = raw.items()
            raw = _expanded(name, value)
        if not isinstance(raw, dict) or "loss" not in raw:
            return raw
        name, inputs = raw["loss"], raw.get("inputs")
        is_recorded = inputs is not None and isinstance(name, str) and is_users(name)
        row = _recorded_row(inputs) if is_recorded else find_loss(name)
        if isinstance(raw.get("weight"), str | dict | Calibrated) and row.needs == "labels":
            raise mistake(f"{name} does not use the teacher. Allowed: a number above 0", "weight")
        hyperparameters = raw.get("hyperparameters", {})
        if not is_recorded:
            hyperparameters = parse_hyperparameters(name, row, hyperparameters)
        return raw | {
            "at": parse_places(name, row, raw.get("at")),
            "hyperparameters": hyperparameters,
            "inputs": list(row.inputs) or None,
        }

    @field_validator("weight", mode="before")
    @classmethod
    def _parse_weight(cls, weight: object) -> object:
        if problem := weight_problem(weight):
            raise mistake(problem)
        return {"auto": 1.0} if weight == "auto" else weight

    @property
    def row(self) -> Loss:
        """The row of the loss in the catalogue. For a user's own loss, a row that is derived from `inputs`."""
        if self.inputs is None:
            return LOSSES[self.loss]
        return row_of(tuple(self.inputs), softened="temperature" in self.hyperparameters)

    @property
    def factor(self) -> float:
        """The weight as a number.

        Raises:
            ValueError: The weight is not calibrated yet.
        """
        if isinstance(self.weight, Calibrated):
            raise ValueError(f"the weight of {self.loss} is not calibrated yet")
        return self.weight

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of places (student, teacher) where features are taken. Empty for losses on labels or logits."""
        places = [] if self.at is None else self.at if isinstance(self.at, list) else [self.at]
        return [(at, at) if isinstance(at, str) else (at.student, at.teacher) for at in places]


SHARED_FIELDS = ("weight", "warmup", "cosine", "at")
"""The fields of a term that are not hyperparameters of its loss."""


def _expanded(name: object, value: object) -> dict[str, object]:
    """Return the normal form of the shorthand `{name: value}` of a term.

    Args:
        name: The name of the loss.
        value: The weight, or a mapping of fields and hyperparameters.
    """
    if not isinstance(value, dict) or set(value) == {"auto"}:
        return {"loss": name, "weight": value}
    shared = {key: inner for key, inner in value.items() if key in SHARED_FIELDS}
    return {"loss": name, **shared, "hyperparameters": {key: value[key] for key in value if key not in shared}}


def find_loss(name: object) -> Loss:
    """Return the row of a loss of the catalogue, or of a user's own loss. User code is read but not run.

    Raises:
        PydanticCustomError: The loss does not exist, or the signature of the user's own loss is not valid.
    """
    if isinstance(name, str) and name in LOSSES:
        return LOSSES[name]
    if not isinstance(name, str) or not is_users(name):
        raise mistake(f"unknown loss {show(name)}. {allowed(str(name), [*LOSSES, 'module:name'])}")
    try:
        return read_loss(name, SHARED_FIELDS)
    except ValueError as error:
        raise mistake(f"{name}: {error}") from error


def _recorded_row(inputs: object) -> Loss:
    """Return the row of a user's own loss, derived from the recorded names of its positional arguments.

    The user's module is not read, because it may no longer exist.

    Raises:
        PydanticCustomError: `inputs` is not a list of names, or the names are not valid for a loss.
    """
    if not isinstance(inputs, list) or not all(isinstance(each, str) for each in inputs):
        raise mistake(f"expected a list of names, got {show(inputs)}", "inputs")
    try:
        return row_of(tuple(inputs))
    except ValueError as error:
        raise mistake(str(error), "inputs") from error


def parse_places(name: str, loss: Loss, at: object) -> object:
    """Return the places where a loss takes features, in the normal form of `Term.at`.

    Args:
        name: The name of the loss, for error messages.
        loss: The row of the loss.
        at: The value of `at` in the experiment file. If None, the default places of the loss are used.

    Raises:
        PydanticCustomError: The loss takes no features, or the value is neither a place nor a list of places.
    """
    if "features" not in loss.needs:
        if at is not None:
            takers = ", ".join(other for other in LOSSES if LOSSES[other].needs == "features")
            raise mistake(f"{name} takes no features. Allowed with the losses: {takers}", "at")
        return None
    if at is None:
        return list(loss.places) if len(loss.places) > 1 else loss.places[0]
    places = at if isinstance(at, list) else [at]
    if len(places) > MOST_PLACES:
        raise mistake(f"expected at most {MOST_PLACES} places, got {len(places):,}", "at")
    for place in places:
        if not isinstance(place, TapPair) and not (isinstance(place, str) and place) and not _is_pair(place):
            raise mistake(f"expected a place in the network, got {show(place)}. Allowed: {PLACES}", "at")
    if any(place in places[:number] for number, place in enumerate(places)):
        raise mistake(f"{show(at)} names a place twice. Allowed: each place once", "at")
    if not places:
        raise mistake(f"expected a place in the network, got {show(at)}. Allowed: {PLACES}", "at")
    return at


PLACES = "first, middle, deepest, last, a module's dotted name, {student: NAME, teacher: NAME}, or a list of these"


def _is_pair(place: object) -> bool:
    return (
        isinstance(place, dict)
        and set(place) == {"student", "teacher"}
        and all(isinstance(name, str) and name for name in place.values())
    )


def parse_hyperparameters(name: str, loss: Loss, raw: object) -> dict[str, float | str]:
    """Return the values of a loss's hyperparameters. Defaults that depend on the shapes of features are left out.

    Args:
        name: The name of the loss, for error messages.
        loss: The row of the loss.
        raw: The values in the experiment file. All other hyperparameters have their defaults.

    Raises:
        PydanticCustomError: A hyperparameter is unknown or missing, or its value is not allowed.
    """
    known = loss.hyperparameters
    if not isinstance(raw, dict):
        raise mistake(f"expected a mapping, got {show(raw)}. {allowed('', known)}", "hyperparameters")
    for key, value in raw.items():
        if key not in known:
            shared = [field for field in SHARED_FIELDS if field != "at" or "features" in loss.needs]
            raise mistake(f"{name} has no hyperparameter {show(key)}. {allowed(str(key), [*known, *shared])}", key)
        if problem := known[key].problem(value):
            raise mistake(problem, key)
    for key, kind in known.items():
        if isinstance(kind, Argument) and kind.required and key not in raw:
            raise mistake(f"{name} needs the hyperparameter {key}, which has no default. Allowed: {kind}", key)
    values = ((key, raw.get(key, known[key].default)) for key in known)
    return {key: known[key].converted(value) for key, value in values if value is not None}
