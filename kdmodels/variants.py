"""What an experiment compares: the experiment file's `variants`, with its presets and grids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from kdmodels.catalogue import LOSSES, Choice, Hyperparameter
from kdmodels.errors import allowed
from kdmodels.objectives import CONTROL, PRESETS
from kdmodels.recipe import Student
from kdmodels.schema import NAME, Part, explain, mistake, parse, several, show
from kdmodels.terms import OWN, PLACES, Term, tapped_places

MOST_VARIANTS = 1_000  # of an experiment, with those of its grids


class Variant(Part):
    """One way to train the student: a name and its weighted loss terms. `terms` may be a preset's name."""

    name: str = Field(pattern=NAME, description="Unique in the experiment.")
    terms: list[Term] = Field(min_length=1, description="The weighted losses that are added up.")
    student: Student | None = Field(
        default=None, description="Another student than the experiment's; its fields that are not given are the same."
    )

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
        if self.name == CONTROL and (self.terms != _preset(CONTROL) or self.student):
            raise mistake(
                f"{CONTROL} is the control: hard_labels alone, the experiment's student; allowed: another name", "name"
            )
        return self

    @property
    def teacher_places(self) -> list[str]:
        """Where the teacher's features are taken for any of the terms, sorted."""
        return sorted({there for term in self.terms for _, there in term.pairs})


def expand(items: list[Any], student: Student | None) -> list[Variant]:
    """The variants that the items of an experiment file stand for, and a control for each student that has none.

    An item is a preset's name, a preset with hyperparameters (a list of values makes a grid), or a name and terms,
    and perhaps what its `student` has that the experiment's has not; None where that one is not sound, which is told
    on its own.

    >>> student = Student.model_validate({"network": {"mlp": [8]}, "epochs": 1})
    >>> longer = {"name": "longer", "terms": "kd", "student": {"epochs": 2}}
    >>> [variant.name for variant in expand([{"kd": {"temperature": [2, 8]}}, longer], student)]
    ['hard-labels', 'kd-temperature=2', 'kd-temperature=8', 'hard-labels-of-longer', 'longer']
    """
    variants: list[Variant] = []
    mistakes: list[PydanticCustomError] = []
    for index, item in enumerate(items):
        try:
            expanded = _expanded(_with_student(item, student, index), index)
            _refuse_many(len(variants) + len(expanded), index)
            for variant in expanded:
                if variant.name in [other.name for other in variants]:
                    raise mistake(f"{show(variant.name)} stands twice; allowed: each name once", index)
                variants.append(variant)
        except PydanticCustomError as error:
            mistakes.append(error)
        except ValidationError as error:
            found = [explain(detail, Variant) for detail in error.errors()]
            mistakes += [mistake(message, *where) for where, message in found]
    if mistakes:
        raise several(mistakes)
    names = {variant.name for variant in variants}
    if CONTROL not in names:
        variants.insert(0, Variant(name=CONTROL, terms=_preset(CONTROL)))
    for variant in list(variants):
        if control_of(variant, variants) is None:
            name = f"{CONTROL}-of-{variant.name}"[:100]
            if name in names:
                raise mistake(f"{show(name)} is the control's name for {show(variant.name)}; allowed: another name")
            variants.insert(
                variants.index(variant), Variant(name=name, terms=_preset(CONTROL), student=variant.student)
            )
    return variants


def control_of(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """The variant that trains the same student on labels alone; None where there is none."""
    if variant.student is None:
        return next((other for other in variants if other.name == CONTROL), None)
    alone = _preset(CONTROL)
    return next((other for other in variants if other.terms == alone and other.student == variant.student), None)


def _with_student(item: Any, student: Student | None, index: int) -> Any:
    """The item with all of its own student, if it has one."""
    if isinstance(item, dict) and isinstance(item.get("student"), dict):
        return item | {"student": _changed(student, item["student"], index)}
    return item


def _changed(student: Student | None, change: dict[Any, Any], index: int) -> Student | None:
    """The student with those fields changed; None where that leaves it as it is."""
    if student is None:
        return None
    if change.get("seeds", student.seeds) != student.seeds:
        message = f"{show(change['seeds'])} differs from the experiment's; allowed: {student.seeds}, for pairs of seeds"
        raise mistake(message, index, "student", "seeds")
    changed = parse(Student, student.model_dump(mode="json") | change, index, "student")
    return None if changed == student else changed


def _expanded(item: Any, index: int) -> list[Variant]:
    if isinstance(item, str):
        return [Variant(name=item, terms=_preset(item, index))]
    if isinstance(item, dict) and len(item) == 1 and not item.keys() & Variant.model_fields.keys():
        ((name, grid),) = item.items()
        return _grid(str(name), grid, index)
    return [parse(Variant, point, index) for point in _points(item, index)]


def _points(item: Any, index: int) -> list[Any]:
    """A variant's own terms with one value in place of each listed one, for all combinations; named by them."""
    terms = item.get("terms") if isinstance(item, dict) else None
    if not isinstance(terms, list):
        return [item]
    axes: list[list[tuple[int, str, str, Any]]] = []
    for number, term in enumerate(terms):
        for loss, given in term.items() if isinstance(term, dict) and len(term) == 1 else ():
            listed = given if isinstance(given, dict) else {"weight": given}
            for key, values in listed.items():
                if isinstance(values, list) and key != "at":  # a list of places is not a grid
                    if not values:
                        raise mistake("[] is empty; allowed: one or more values", index, "terms", number, loss, key)
                    axes.append([(number, loss, key, value) for value in values])
    _refuse_many(prod(map(len, axes)), index)
    points = []
    for point in product(*axes):
        changed, name = list(terms), item.get("name")
        for number, loss, key, value in point:
            given = changed[number][loss]
            changed[number] = {loss: (given if isinstance(given, dict) else {}) | {key: value}}
            name = f"{name}-{loss}.{key}={_told(value)}" if isinstance(name, str) else name
        points.append(item | {"terms": changed} | ({"name": name} if "name" in item else {}))
    return points


def _grid(name: str, grid: Any, index: int) -> list[Variant]:
    """One variant for each combination of the listed values, in the order in which they are written."""
    terms = _preset(name, index)
    axes = _axes(terms)
    if not isinstance(grid, dict):
        raise mistake(f"{show(grid)} is not a mapping of hyperparameters; {allowed('', axes)}", index, name)
    columns = []
    for key, values in grid.items():
        if key not in axes:
            raise mistake(f"{name} has no hyperparameter {show(key)}; {allowed(str(key), axes)}", index, name, key)
        known, places = axes[key]
        column = values if isinstance(values, list) and not isinstance(known, _Place) else [values]
        if not column:
            raise mistake(f"[] is empty; allowed: one or more, each {known}", index, name, key)
        for value in column:
            if problem := known.problem(value):
                raise mistake(problem, index, name, key)
        columns.append(
            [(key, places, float(value) if isinstance(known, Hyperparameter) else value) for value in column]
        )
    meant = [place for key in grid for place in axes[key][1]]
    if len(set(meant)) < len(meant):
        raise mistake(f"{' and '.join(map(str, grid))} say one number twice; allowed: one of them", index, name)
    _refuse_many(prod(map(len, columns)), index, name)
    return [_at_point(name, terms, point, index) for point in product(*columns)]


def _refuse_many(count: int, *path: str | int) -> None:
    """Raise a mistake if there are too many variants; count them before any is built."""
    if count > MOST_VARIANTS:
        raise mistake(f"{count:,} variants; allowed: at most {MOST_VARIANTS:,} in an experiment", *path)


Places = list[tuple[int, str]]
"""The number of a term, and which of its fields or hyperparameters."""


class _Switch:
    """What a field takes that is on or off."""

    def __str__(self) -> str:
        return "true or false"

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, in words; None if nothing."""
        return None if isinstance(value, bool) else f"{show(value)} is not {self}"


@dataclass(frozen=True)
class _Place:
    """Where a term's features are taken; a list of places is one value of it."""

    loss: str

    def __str__(self) -> str:
        return PLACES

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, in words; None if nothing."""
        try:
            tapped_places(self.loss, value)
        except PydanticCustomError as error:
            return error.message()
        return None


Axis = Hyperparameter | Choice | _Switch | _Place


def _axes(terms: list[Term]) -> dict[str, tuple[Axis, Places]]:
    """What a grid over these terms may vary, by name: `temperature`, `hint.weight`, and `weight` where one is meant.

    A hyperparameter's bare name means all terms that have it; `weight`, `warmup`, `cosine` and `at` mean the only term
    with a teacher.
    """
    bare: dict[str, tuple[Axis, Places]] = {}
    dotted: dict[str, tuple[Axis, Places]] = {}
    taught = [number for number, term in enumerate(terms) if LOSSES[term.loss].needs != "labels"]
    for number, term in enumerate(terms):
        for key, known in LOSSES[term.loss].hyperparameters.items():
            dotted[f"{term.loss}.{key}"] = known, [(number, key)]
            bare[key] = known, [*bare.get(key, (known, []))[1], (number, key)]
        own = {**_SHARED} | ({"at": _Place(term.loss)} if LOSSES[term.loss].needs == "features" else {})
        for key, shared in own.items():
            dotted[f"{term.loss}.{key}"] = shared, [(number, key)]
            if taught == [number]:
                bare[key] = shared, [(number, key)]
    return bare | dotted


_SHARED: Mapping[str, Axis] = {
    "weight": Hyperparameter(1, low=0),
    "warmup": Hyperparameter(0, low=0, high=1, low_inclusive=True),
    "cosine": _Switch(),
}


def _at_point(name: str, terms: list[Term], point: Sequence[tuple[str, Places, Any]], index: int) -> Variant:
    changed = list(terms)
    for _, places, value in point:
        for number, key in places:
            term = changed[number]
            beside = {"hyperparameters": {**term.hyperparameters, key: value}}
            changed[number] = Term.model_validate(term.model_dump() | ({key: value} if key in OWN else beside))
    told = (f"{key}={_told(value)}" for key, _, value in point)
    return parse(Variant, {"name": "-".join([name, *told]), "terms": changed}, index)


def _told(value: object) -> str:
    """A value as it stands in a variant's name."""
    if isinstance(value, float):
        return format(value, ".12g")
    if isinstance(value, list | dict):  # places
        return "+".join(map(_told, value if isinstance(value, list) else value.values()))
    return show(value) if isinstance(value, bool) else str(value)


def _preset(name: str, *path: str | int) -> list[Term]:
    if name not in PRESETS and name in LOSSES:
        terms = f"{{name: NAME, terms: [{{{name}: {{weight: 1}}}}]}}"
        raise mistake(f"{show(name)} is a loss; allowed: {terms}, or a preset: {', '.join(PRESETS)}", *path)
    if name not in PRESETS:
        raise mistake(f"{show(name)} is not a preset; {allowed(name, PRESETS)}", *path)
    return list(PRESETS[name].terms)
