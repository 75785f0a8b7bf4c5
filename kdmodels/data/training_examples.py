"""The choice of the training examples that keep their labels, and of the images from which distilled students learn.

Both choices depend on the content of the examples, never on a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kdmodels.data.checks import require_two
from kdmodels.data.files import listed
from kdmodels.data.holdout import bounds, hold_out
from kdmodels.data.parts import UNLABELLED, Part
from kdmodels.errors import UsageError, allowed
from kdmodels.experiment.data import REST, Data, Transfer


@dataclass(frozen=True)
class TrainingExamples:
    """The examples from which the networks of an experiment learn.

    Args:
        labelled: The examples that keep their labels. Teachers and controls (students without a teacher) learn from
            these examples.
        distilled: The labelled examples from which distilled students learn. Empty with `data.transfer.alone`.
        unlabelled: The examples without labels from which distilled students also learn. `None` if there are none.
        notes: Facts about the choice that the user should know.
    """

    labelled: Part
    distilled: Part
    unlabelled: Part | None
    notes: list[str]


def choose_training_examples(train: Part, images: Part | None, data: Data, classes: Sequence[str]) -> TrainingExamples:
    """Choose the examples from which the networks of an experiment learn.

    Args:
        train: The training split.
        images: The unlabelled images that do not come from the source. They come from the folder or zip file in
            `data.transfer.unlabelled` or from a generator, or they are noise. `None` if the experiment has no such
            images.
        data: The `data` section of the experiment.
        classes: The class names. A label is an index into this list.

    Raises:
        UserError: `data.labelled` or `data.transfer.count` is out of range, or a class has too few examples. The same
            error is raised if no training example has a class in `data.transfer.classes`.
    """
    labelled, unlabelled, notes = train, images, []
    if data.labelled is not None:
        rest, labelled = take_stratified(train, data.labelled, classes, "data.labelled")
        notes.append(f"{data.labelled} of {len(train.labels)} training examples keep their labels")
        if data.transfer and data.transfer.unlabelled == REST:
            unlabelled = rest
    if data.transfer is None:
        return TrainingExamples(labelled, labelled, None, notes)
    distilled, scope = labelled, ""
    if data.transfer.classes is not None:
        codes = _codes(data.transfer.classes, labelled, classes)
        distilled, scope = _of_classes(labelled, codes), f" of {listed(data.transfer.classes)}"
        unlabelled = _of_classes(unlabelled, codes) if unlabelled else None
    if data.transfer.alone:
        distilled = labelled.take(np.zeros(0, dtype=np.int64))
    if unlabelled:
        unlabelled = _without_labels(unlabelled, data.transfer)
    counts = f"{len(distilled.labels)} labelled and {len(unlabelled.labels) if unlabelled else 0} unlabelled"
    notes.append(f"distilled students learn from {counts} images{scope}")
    if data.transfer.classes is not None:
        unseen = [name for code, name in enumerate(classes) if code not in codes]
        notes.append(f"distilled students see no image of {listed(unseen)}, but hard-labels does")
    return TrainingExamples(labelled, distilled, unlabelled, notes)


def take_stratified(part: Part, size: int, classes: Sequence[str], field: str) -> tuple[Part, Part]:
    """Choose examples by the fingerprints of their images, stratified by class.

    Args:
        part: The examples.
        size: The number of examples to choose.
        classes: The class names.
        field: The field of the experiment that sets `size`, for error messages.

    Returns:
        The examples that are not chosen, and the chosen examples.

    Raises:
        UserError: A class has only one example. Or `size` is so small or so large that all or none of the examples of a
            class would be chosen.
    """
    require_two(part.labels, classes, field)
    least, most = bounds(part.labels)
    if not least <= size <= most:
        raise UsageError(f"{field}: {size} is out of range. Allowed: {least} to {most}")
    others, chosen = hold_out(part.labels, part.prints, size)
    return part.take(others), part.take(chosen)


def _codes(names: Sequence[str], labelled: Part, classes: Sequence[str]) -> list[int]:
    present = {classes[code]: int(code) for code in np.unique(labelled.labels)}
    for name in names:
        if name not in present:
            raise UsageError(
                f"data.transfer.classes: no training example has the class {name!r}. {allowed(name, present)}"
            )
    return [present[name] for name in names]


def _of_classes(part: Part, codes: Sequence[int]) -> Part:
    return part.take(np.flatnonzero(np.isin(part.labels, codes)))


def _without_labels(part: Part, transfer: Transfer) -> Part:
    """Return the examples with their labels replaced by `UNLABELLED`.

    If `transfer.count` is set, return only this number of examples. The choice does not depend on the labels.

    Raises:
        UserError: `transfer.count` is larger than the number of examples.
    """
    size = len(part.labels)
    if transfer.count is not None:
        if transfer.count > size:
            raise UsageError(f"data.transfer.count: {transfer.count} is out of range. Allowed: 1 to {size}")
        # The first half of each fingerprint has already decided which examples are held out. Use the second half, so
        # that the two choices are independent.
        part = part.take(np.sort(np.argsort(part.prints[:, 1], kind="stable")[: transfer.count]))
    return replace(part, labels=np.full(len(part.labels), UNLABELLED))
