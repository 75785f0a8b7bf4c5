"""The field `data` of a teacher, for a teacher that is trained on different data from the students."""

from kdmodels.experiment.data import Data
from kdmodels.experiment.schema import mistake, parse, show

FIXED = {
    "size": "All networks take images of one size. To resize them inside the teacher, write teacher.size",
    "normalise": "Write teacher.normalise",
    "folds": "Teacher and students are trained on the same folds",
    "augment": "Write teacher.augment",
    "transfer": "A teacher learns from labels only",
}
"""The fields of `data` that must be equal for teacher and students, each with a hint for the error message."""


def complete_data(raw: object, data: Data | None) -> object:
    """Complete the `data` of each teacher in the value of the experiment's field `teacher`.

    In the experiment file, a teacher's `data` holds only the fields that differ from the experiment's data. The other
    fields, except `augment` and `transfer`, are copied from the experiment's data.

    Args:
        raw: The value of the field `teacher`, before its validation.
        data: The experiment's data. `None` if the experiment's data are not valid, which is reported separately.

    Returns:
        The value with complete `data`. If a teacher's data equal the experiment's data, the teacher's field `data` is
        `None`.

    Raises:
        ValidationError: A field of a teacher's data is wrong.
    """
    if isinstance(raw, list):
        return [_completed(member, data, index) for index, member in enumerate(raw)]
    if isinstance(raw, dict) and isinstance(raw.get("ensemble"), list):
        members = [_completed(member, data, "ensemble", index) for index, member in enumerate(raw["ensemble"])]
        return raw | {"ensemble": members}
    return _completed(raw, data)


def _completed(member: object, data: Data | None, *path: str | int) -> object:
    """Return the mapping of one teacher with complete `data`, as described in `complete_data`.

    Args:
        member: The mapping of the teacher. A value without `data` is returned unchanged.
        data: The experiment's data, see `complete_data`.
        path: The path of the teacher inside the field `teacher`, for error messages.
    """
    change = member.get("data") if isinstance(member, dict) else None
    if not isinstance(member, dict) or change is None or isinstance(change, Data):
        return member
    if data is None:
        return member | {"data": None}
    if isinstance(change, str):
        change = {"source": change}
    if not isinstance(change, dict):
        raise mistake(f"expected a mapping, got {show(change)}", *path, "data")
    base = data.model_copy(update={"transfer": None, "augment": ()})
    completed = parse(Data, base.model_dump(mode="json") | change, *path, "data")
    for name, hint in FIXED.items():
        if getattr(completed, name) != getattr(base, name):
            difference = f"{show(change[name])} differs from that of the students' data, {show(getattr(base, name))}"
            raise mistake(f"{difference}. {hint}", *path, "data", name)
    if completed.folds and completed.source == base.source and completed.subset != base.subset:
        reason = "so the teacher would be trained on images that the folds of the students hold out"
        hint = "To give the teacher more labels, set data.labelled and teacher.data.labelled"
        raise mistake(
            f"{show(change['subset'])} differs from the students' data, {reason}. "
            f"Allowed with data.folds: {show(base.subset)}. {hint}",
            *path, "data", "subset",
        )  # fmt: skip
    return member | {"data": None if completed == base else completed.model_dump(mode="json")}
