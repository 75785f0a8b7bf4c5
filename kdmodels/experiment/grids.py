"""The expansion of grids. A grid is a variant or a preset in which some hyperparameters have a list of values.

An axis of the grid is one hyperparameter, or one field of a term. A point of the grid has one value for each axis. The
expansion of a grid gives one variant for each point.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from pydantic_core import PydanticCustomError

from kdmodels.errors import allowed
from kdmodels.experiment.loss import Hyperparameter, Loss
from kdmodels.experiment.loss import Kind as ValueKind
from kdmodels.experiment.presets import preset_terms
from kdmodels.experiment.schema import mistake, show
from kdmodels.experiment.terms import PLACES, SHARED_FIELDS, WEIGHTS, Calibrated, Term, parse_places, weight_problem

MOST_VARIANTS = 1_000  # the maximum number of variants in one experiment, including the variants of its grids


class Switch:
    """The kind of a grid axis whose values are true and false."""

    def __str__(self) -> str:
        return "true or false"

    def problem(self, value: object) -> str | None:
        """Return a description of the problem with a value. Return `None` if the value is allowed."""
        return None if isinstance(value, bool) else f"expected {self}, got {show(value)}"


class Weight:
    """The kind of a grid axis whose values are weights of a term."""

    def __str__(self) -> str:
        return WEIGHTS

    def problem(self, value: object) -> str | None:
        """Return a description of the problem with a value. Return `None` if the value is allowed."""
        return weight_problem(value)


@dataclass(frozen=True)
class Places:
    """The kind of a grid axis whose values are the places in the networks where a loss takes its features.

    A list of places is one value of such an axis, because a loss can take features at several places.
    """

    loss: str
    row: Loss

    def __str__(self) -> str:
        return PLACES

    def problem(self, value: object) -> str | None:
        """Return a description of the problem with a value. Return `None` if the value is allowed."""
        try:
            parse_places(self.loss, self.row, value)
        except PydanticCustomError as error:
            return error.message()
        return None


Kind = ValueKind | Switch | Weight | Places
Targets = list[tuple[int, str]]
"""The fields that an axis changes. Each item holds the index of a term, and the name of a field or hyperparameter."""

PUBLISHED = "published"
"""The name of the axis that tells whether the terms of a preset have their published weights."""

_SHARED: Mapping[str, Kind] = {
    "weight": Weight(),
    "warmup": Hyperparameter(0, low=0, high=1, low_inclusive=True),
    "cosine": Switch(),
}


def refuse_too_many(count: int, *path: str | int) -> None:
    """Raise an error if an experiment has more than `MOST_VARIANTS` variants.

    Call this function before the variants are built, because a grid can expand to a very large number of variants.

    Args:
        count: The number of variants.
        path: The path of the field that holds the variants, for the error message.

    Raises:
        PydanticCustomError: There are too many variants.
    """
    if count > MOST_VARIANTS:
        raise mistake(f"expected at most {MOST_VARIANTS:,} variants in an experiment, got {count:,}", *path)


def expand_variant(item: object, index: int) -> list[object]:
    """Expand a variant in which fields of terms have lists of values. Return one variant per combination of values.

    The variants are mappings that are not validated yet. The name of each variant contains its values.

    Args:
        item: A mapping with `name` and `terms`, as in an experiment file. Any other value is returned unchanged, as the
            only item of the list.
        index: The index of the item in the field `variants`, for error messages.
    """
    terms = item.get("terms") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(terms, list):
        return [item]
    axes = list(_listed_values(terms, index))
    refuse_too_many(prod(map(len, axes)), index)
    points: list[object] = []
    for point in product(*axes):
        changed, name = list(terms), item.get("name")
        for number, loss, key, value in point:
            arguments = changed[number][loss]
            changed[number] = {loss: (arguments if isinstance(arguments, dict) else {}) | {key: value}}
            name = f"{name}-{loss.rpartition(':')[2]}.{key}={_in_name(value)}" if isinstance(name, str) else name
        grid = {"grid": item.get("name")} if axes else {}
        points.append(item | {"terms": changed} | grid | ({"name": name} if "name" in item else {}))
    return points


def _listed_values(terms: list[object], index: int) -> Iterator[list[tuple[int, str, str, object]]]:
    """Yield one axis of the grid for each field that has a list of values.

    An axis is a list with one tuple per value: the index of the term, the loss, the field and the value.

    Args:
        terms: The terms of a variant, as in an experiment file.
        index: The index of the variant in the field `variants`, for error messages.
    """
    for number, term in enumerate(terms):
        for loss, value in term.items() if isinstance(term, dict) and len(term) == 1 else ():
            arguments = value if isinstance(value, dict) else {"weight": value}
            for key, values in arguments.items():
                if isinstance(values, list) and key != "at":  # a list of places is one value of `at`
                    if not values:
                        raise mistake("expected at least one value, got []", index, "terms", number, loss, key)
                    yield [(number, loss, key, each) for each in values]


def expand_preset(name: str, grid: object, index: int) -> list[object]:
    """Expand a preset whose hyperparameters have lists of values. Return one variant per combination of values.

    For example, the preset `kd` with the grid `{temperature: [2, 8]}` is expanded to 2 variants. The variants are
    mappings that are not validated yet. They are sorted by the value of the first hyperparameter, then of the second,
    and so on, each in the order of its list.

    Args:
        name: The name of the preset.
        grid: A mapping from the name of a hyperparameter to its value or list of values. A name can also be a field of
            a term, e.g. `hint.weight`.
        index: The index of the item in the field `variants`, for error messages.

    Raises:
        PydanticCustomError: The preset or a hyperparameter is unknown, or a value is not allowed.
    """
    axes = _axes(preset_terms(name, index))
    if not isinstance(grid, dict):
        raise mistake(f"expected a mapping of hyperparameters, got {show(grid)}. {allowed('', axes)}", index, name)
    columns = []
    for key, values in grid.items():
        if key not in axes:
            raise mistake(f"{name} has no hyperparameter {show(key)}. {allowed(str(key), axes)}", index, name, key)
        kind, targets = axes[key]
        columns.append([(key, targets, value) for value in _column(kind, values, index, name, key)])
    changed = [target for key in grid for target in axes[key][1]]
    if len(set(changed)) < len(changed):
        raise mistake(f"{' and '.join(map(str, grid))} set the same number. Allowed: one of them", index, name)
    _refuse_auto_with_published([value for column in columns for value in column], index, name)
    refuse_too_many(prod(map(len, columns)), index, name)
    return [_at_point(name, point) | {"grid": name} for point in product(*columns)]


def _refuse_auto_with_published(values: Sequence[tuple[str, Targets, object]], *path: str | int) -> None:
    """Raise an error if a grid asks for the published weights of a preset, and also for a calibrated weight.

    Args:
        values: One tuple per value of an axis: the name of the axis, the fields that the axis changes, and the value.
        path: The path of the grid, for the error message.
    """
    for key, targets, value in values:
        is_auto = isinstance(value, str | dict) and any(field == "weight" for _, field in targets)
        if is_auto and (PUBLISHED, [], True) in values:
            reason = f"{show(value)} asks for a calibrated weight, and published: true for the published weights"
            raise mistake(f"{reason}. Allowed: a number, or published: false", *path, key)


def _column(kind: Kind, values: object, *path: str | int) -> list[object]:
    column = values if isinstance(values, list) and not isinstance(kind, Places) else [values]
    if not column:
        raise mistake(f"expected at least one value, got []. Allowed: {kind}", *path)
    for value in column:
        if problem := kind.problem(value):
            raise mistake(problem, *path)
    is_number = isinstance(kind, Hyperparameter | Weight)
    return [float(value) if is_number and isinstance(value, int) else value for value in column]


def _axes(terms: list[Term]) -> dict[str, tuple[Kind, Targets]]:
    """Return the axes that a grid over these terms can have, by name, e.g. `temperature` or `hint.weight`.

    A name without a loss, e.g. `temperature`, changes all terms that have this hyperparameter. If exactly one term uses
    the teacher, the names `weight`, `warmup`, `cosine` and `at` without a loss change this term.

    Returns:
        The kind of each axis, and the fields that the axis changes.
    """
    bare: dict[str, tuple[Kind, Targets]] = {}
    dotted: dict[str, tuple[Kind, Targets]] = {}
    distilled = [number for number, term in enumerate(terms) if term.row.needs != "labels"]
    kind: Kind
    for number, term in enumerate(terms):
        for key, kind in term.row.hyperparameters.items():
            dotted[f"{term.loss}.{key}"] = kind, [(number, key)]
            bare[key] = kind, [*bare.get(key, (kind, []))[1], (number, key)]
        shared = {**_SHARED} | ({"at": Places(term.loss, term.row)} if "features" in term.row.needs else {})
        for key, kind in shared.items():
            dotted[f"{term.loss}.{key}"] = kind, [(number, key)]
            if distilled == [number]:
                bare[key] = kind, [(number, key)]
    has_published = any(isinstance(term.weight, Calibrated) for term in terms)
    return bare | dotted | ({PUBLISHED: (Switch(), [])} if has_published else {})


def _at_point(name: str, point: Sequence[tuple[str, Targets, object]]) -> dict[str, object]:
    """Return the variant of a preset at one point of the grid.

    The variant is a mapping that is not validated yet.

    Args:
        name: The name of the preset.
        point: One tuple per axis: the name of the axis, the fields that the axis changes, and their new value.
    """
    changed = preset_terms(name, published=any(key == PUBLISHED and value for key, _, value in point))
    for _, targets, value in point:
        for number, key in targets:
            term = changed[number]
            is_shared = key in SHARED_FIELDS
            update = {key: value} if is_shared else {"hyperparameters": {**term.hyperparameters, key: value}}
            changed[number] = Term.model_validate(term.model_dump() | update)
    values = (f"{key}={_in_name(value)}" for key, _, value in point)
    return {"name": "-".join([name, *values]), "terms": changed}


def _in_name(value: object) -> str:
    """Return the text that represents a value in the name of a variant.

    >>> _in_name(0.5), _in_name(True), _in_name(["first", {"student": "a", "teacher": "b"}]), _in_name({"auto": 0.3})
    ('0.5', 'true', 'first+a+b', 'auto-0.3')
    """
    if isinstance(value, dict) and set(value) == {"auto"}:
        return f"auto-{_in_name(value['auto'])}"
    if isinstance(value, float):
        return format(value, ".12g")
    if isinstance(value, list | dict):  # one place or several places
        return "+".join(map(_in_name, value if isinstance(value, list) else value.values()))
    return show(value) if isinstance(value, bool) else str(value)
