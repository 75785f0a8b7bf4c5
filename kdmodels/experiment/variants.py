"""The `variants` field of the experiment file. A variant is one way to train the student."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from kdmodels.experiment.grids import expand_preset, expand_variant, refuse_too_many
from kdmodels.experiment.presets import CONTROL, preset_terms
from kdmodels.experiment.recipe import Student
from kdmodels.experiment.schema import NAME, Part, combined, explain, mistake, parse, show
from kdmodels.experiment.terms import Term

EQUAL_STEPS = "-equal-steps"
"""The suffix of the name of a control that has as many steps as the distilled students."""


class Variant(Part):
    """One way to train the student, with a name and weighted losses.

    In an experiment file, `terms` can also be the name of a preset.
    """

    name: str = Field(pattern=NAME, description="Name of the variant, unique in the experiment.")
    terms: list[Term] = Field(min_length=1, description="Weighted losses, which are added up.")
    student: Student | None = Field(
        default=None, description="Fields in which the student differs from the experiment's student. Default: none."
    )
    equal_steps: bool = Field(
        default=False,
        description="Whether an epoch repeats the training examples until it has as many steps as an epoch of a "
        "distilled student. Only for a control with data.transfer.unlabelled. Such a control is added if absent.",
    )
    grid: str | None = Field(
        default=None, description="Name of the grid of which the variant is a point. Set by a list of values."
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, raw: object) -> object:
        if isinstance(raw, dict) and isinstance(raw.get("terms"), str):
            return raw | {"terms": preset_terms(raw["terms"], "terms")}
        return raw

    @model_validator(mode="after")
    def _require_distinct_losses(self) -> Self:
        losses = [term.loss for term in self.terms]
        for index, loss in enumerate(losses):
            if loss in losses[:index]:  # both terms would log the metric train/<loss>
                raise mistake(f"{loss} appears twice. Each loss may appear only once", "terms", index)
        return self

    @model_validator(mode="after")
    def _require_control_of_labels(self) -> Self:
        if self.equal_steps and self.terms != preset_terms(CONTROL):
            rule = "a control, i.e. a variant whose only term is hard_labels"
            raise mistake(f"true is allowed only for {rule}", "equal_steps")
        if self.name == CONTROL and (self.terms != preset_terms(CONTROL) or self.student or self.equal_steps):
            rule = "the control, which trains the experiment's student by hard_labels alone"
            raise mistake(f"{CONTROL} is the name of {rule}. Allowed: another name", "name")
        return self

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss needs the teacher. A variant that is trained only on labels needs no teacher."""
        return any(term.row.needs != "labels" for term in self.terms)

    @property
    def teacher_places(self) -> list[str]:
        """The places where the terms take features of the teacher, sorted."""
        return sorted({teacher for term in self.terms for _, teacher in term.pairs})


def expand(items: list[object], student: Student | None, *, adds_images: bool = False) -> list[Variant]:
    """Return the variants of an experiment from the items of its field `variants`, with controls for each student.

    Args:
        items: The items. If a hyperparameter has a list of values, the item is a grid and expands to several variants.
            Each item has one of these forms:

            - the name of a preset
            - a mapping from the name of a preset to its hyperparameters
            - a mapping with `name` and `terms`, and optionally `student`: the fields in which the variant's student
              differs from the experiment's student
        student: The experiment's student. `None` if the student is not valid. This mistake is reported separately.
        adds_images: Whether distilled students learn from images that the controls do not have. If True, each student
            with distilled variants gets a second control, which has as many steps as the distilled variants.

    Raises:
        ValidationError: Some items are not valid. The error holds the mistakes of all items.

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
            refuse_too_many(len(variants) + len(expanded), index)
            for variant in expanded:
                if variant.name in [other.name for other in variants]:
                    raise mistake(f"{show(variant.name)} appears twice. Each name may appear only once", index)
                if variant.equal_steps and not adds_images:
                    raise mistake(
                        "true is allowed only with unlabelled images, because otherwise no variant takes more steps. "
                        "Set data.transfer.unlabelled",
                        index,
                        "equal_steps",
                    )
                variants.append(variant)
        except PydanticCustomError as error:
            mistakes.append(error)
        except ValidationError as error:
            explained = [explain(detail, Variant) for detail in error.errors()]
            mistakes += [mistake(message, *path) for path, message in explained]
    if mistakes:
        raise combined(mistakes)
    variants = _with_controls(variants)
    return _with_equal_steps(variants) if adds_images else variants


def control_of(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """Return the control of a variant. Return `None` if there is no control.

    The control of a variant trains the same student on labels only. If a distilled variant has two controls, the
    control with as many steps as the distilled students (`equal_steps`) is returned. For a control with `equal_steps`,
    the control itself is returned.

    Args:
        variant: The variant.
        variants: All variants of the experiment.
    """
    if variant.equal_steps:
        return variant
    equal_steps = next((other for other in variants if other.equal_steps and other.student == variant.student), None)
    if variant.needs_teacher and equal_steps:
        return equal_steps
    if variant.student is None:
        return next((other for other in variants if other.name == CONTROL), None)
    alone = (other for other in variants if other.terms == preset_terms(CONTROL) and not other.equal_steps)
    return next((other for other in alone if other.student == variant.student), None)


def _with_equal_steps(variants: list[Variant]) -> list[Variant]:
    """Return the variants with a second control for each distilled student. Existing second controls are kept.

    The second control has as many steps as the distilled student. It is inserted after the first control, which trains
    the same student for fewer steps.
    """
    variants = list(variants)
    for variant in [each for each in variants if each.needs_teacher]:
        control = control_of(variant, variants)
        assert control is not None, "_with_controls() adds a control for each student"
        if not control.equal_steps:
            name = f"{control.name[: 100 - len(EQUAL_STEPS)]}{EQUAL_STEPS}"
            _require_new(name, variant, variants)
            extended = control.model_copy(update={"name": name, "equal_steps": True})
            variants.insert(variants.index(control) + 1, extended)
    return variants


def _with_controls(variants: list[Variant]) -> list[Variant]:
    """Return the variants with the missing controls added. A control trains a student on labels only.

    The control of the experiment's student is added at the start. The control of any other student is added directly
    before the first variant that trains this student.
    """
    variants = list(variants)
    if all(variant.name != CONTROL for variant in variants):
        variants.insert(0, Variant(name=CONTROL, terms=preset_terms(CONTROL)))
    for variant in list(variants):
        if control_of(variant, variants) is None:
            name = f"{CONTROL}-of-{variant.name}"[:100]
            _require_new(name, variant, variants)
            control = Variant(name=name, terms=preset_terms(CONTROL), student=variant.student)
            variants.insert(variants.index(variant), control)
    return variants


def _require_new(name: str, variant: Variant, variants: Sequence[Variant]) -> None:
    """Raise an error if the name of a new control is already the name of a variant.

    Args:
        name: The name of the new control.
        variant: The variant for which the control is added.
        variants: All variants.
    """
    if name in [other.name for other in variants]:
        raise mistake(f"{show(name)} is the name of the control for {show(variant.name)}. Allowed: another name")


def _with_student(item: object, student: Student | None, index: int) -> object:
    """Complete the field `student` of an item of the field `variants`. An item without `student` stays unchanged.

    In the experiment file, `student` holds only the fields that differ from the experiment's student.

    Args:
        item: The item.
        student: The experiment's student. `None` if the student is not valid.
        index: The index of the item, for error messages.
    """
    if isinstance(item, dict) and isinstance(item.get("student"), dict):
        return item | {"student": _changed(student, item["student"], index)}
    return item


def _changed(student: Student | None, change: dict[str, object], index: int) -> Student | None:
    """Return the experiment's student with some fields changed.

    Args:
        student: The experiment's student. `None` if the student is not valid.
        change: The changed fields.
        index: The index of the variant, for error messages.

    Returns:
        The changed student. `None` if it equals the experiment's student, or if `student` is `None`.
    """
    if student is None:
        return None
    if change.get("seeds", student.seeds) != student.seeds:
        reason = f"{show(change['seeds'])} differs from the experiment's seeds, which are compared in pairs"
        raise mistake(f"{reason}. Allowed: {student.seeds}", index, "student", "seeds")
    changed = parse(Student, student.model_dump(mode="json") | change, index, "student")
    if changed.augment != student.augment:
        reason = f"{show(change['augment'])} differs from the experiment's, and all students see the same images"
        raise mistake(
            f"{reason}. Allowed: {show(student.model_dump(mode='json')['augment'])}", index, "student", "augment"
        )
    return None if changed == student else changed


def _expanded(item: object, index: int) -> list[Variant]:
    if isinstance(item, str):
        return [Variant(name=item, terms=preset_terms(item, index))]
    if isinstance(item, dict) and len(item) == 1 and not item.keys() & Variant.model_fields.keys():
        ((name, grid),) = item.items()
        return [parse(Variant, point, index) for point in expand_preset(str(name), grid, index)]
    return [parse(Variant, point, index) for point in expand_variant(item, index)]
