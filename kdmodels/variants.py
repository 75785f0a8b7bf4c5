"""What an experiment compares: the experiment file's `variants`, with its presets and grids."""

from collections.abc import Mapping
from itertools import product
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from kdmodels.errors import allowed
from kdmodels.objectives import CONTROL, LOSSES, PRESETS, Term
from kdmodels.schema import NAME, Part, mistake, parse, show


class Variant(Part):
    """One way to train the student: a name and its weighted loss terms. `terms` may be a preset's name."""

    later: ClassVar = {"student": None}

    name: str = Field(pattern=NAME, description="Unique in the experiment.")
    terms: list[Term] = Field(min_length=1, description="The weighted losses that are added up.")

    @model_validator(mode="before")
    @classmethod
    def _normal_form(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("terms"), str):
            return raw | {"terms": _preset(raw["terms"], "terms")}
        return raw

    @model_validator(mode="after")
    def _sound(self) -> Self:
        losses = [term.loss for term in self.terms]
        for index, loss in enumerate(losses):
            if loss in losses[:index]:  # both would be the metric train/<loss>
                raise mistake(f"{loss} stands twice; allowed: each loss once", "terms", index)
        if all(LOSSES[loss].needs == "features" for loss in losses):
            others = ", ".join(name for name, loss in LOSSES.items() if loss.needs != "features")
            message = f"features alone never train the last layer, and a probe is not built yet; add one of: {others}"
            raise mistake(message, "terms")
        if self.name == CONTROL and self.terms != _preset(CONTROL):
            raise mistake(f"{CONTROL} is the control, of hard_labels alone; allowed: another name", "name")
        return self


def expand(items: list[Any]) -> list[Variant]:
    """The variants that the items of an experiment file stand for, with the control before them if it is not there.

    An item is a preset's name, a preset with hyperparameters (a list of values makes a grid), or a name and terms.

    >>> [variant.name for variant in expand(["kd", {"kd": {"temperature": [2, 8]}}])]
    ['hard-labels', 'kd', 'kd-temperature=2', 'kd-temperature=8']
    """
    variants: list[Variant] = []
    names: set[str] = set()
    for index, item in enumerate(items):
        for variant in _expanded(item, index):
            if variant.name in names:
                raise mistake(f"{show(variant.name)} stands twice; allowed: each name once", index)
            names.add(variant.name)
            variants.append(variant)
    return variants if CONTROL in names else [Variant(name=CONTROL, terms=_preset(CONTROL)), *variants]


def _expanded(item: Any, index: int) -> list[Variant]:
    if isinstance(item, str):
        return [Variant(name=item, terms=_preset(item, index))]
    if isinstance(item, dict) and len(item) == 1 and not item.keys() & Variant.model_fields.keys():
        ((name, grid),) = item.items()
        return _grid(str(name), grid, index)
    return [parse(Variant, item, index)]


def _grid(name: str, grid: Any, index: int) -> list[Variant]:
    """One variant for each combination of the listed values, in the order in which they are written."""
    terms = _preset(name, index)
    known = {key: number for term in terms for key, number in LOSSES[term.loss].hyperparameters.items()}
    if not isinstance(grid, dict):
        raise mistake(f"{show(grid)} is not a mapping of hyperparameters; {allowed('', known)}", index, name)
    columns = []
    for key, values in grid.items():
        if key not in known:
            raise mistake(f"{name} has no hyperparameter {show(key)}; {allowed(str(key), known)}", index, name, key)
        column = values if isinstance(values, list) else [values]
        if not column:
            raise mistake(f"[] is empty; allowed: numbers, each {known[key]}", index, name, key)
        for value in column:
            if problem := known[key].problem(value):
                raise mistake(problem, index, name, key)
        columns.append([(key, float(value)) for value in column])
    return [_with_hyperparameters(name, terms, dict(row)) for row in product(*columns)]


def _with_hyperparameters(name: str, terms: list[Term], chosen: Mapping[str, float]) -> Variant:
    changed = [
        term.model_copy(
            update={"hyperparameters": {key: chosen.get(key, own) for key, own in term.hyperparameters.items()}}
        )
        for term in terms
    ]
    return Variant(name="-".join([name, *(f"{key}={value:.12g}" for key, value in chosen.items())]), terms=changed)


def _preset(name: str, *path: str | int) -> list[Term]:
    if name not in PRESETS:
        raise mistake(f"{show(name)} is not a preset; {allowed(name, PRESETS)}", *path)
    return list(PRESETS[name].terms)
