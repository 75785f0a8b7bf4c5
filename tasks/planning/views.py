"""The choice whether the teacher's outputs are stored before students are trained, and for how many views.

A view is one augmented version of each training image. If no outputs are stored, the teacher is live: its outputs are
computed while a student is trained.
"""

from collections.abc import Mapping
from math import prod

from pydantic import ByteSize

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from tasks.references import DataReference, Views

HALF = 2  # bytes of one stored value, which usually has half precision
FEWEST = 4  # minimum number of views to store with augmentation; otherwise the teacher is live


def choose_views(experiment: Experiment, data: DataReference, shapes: Mapping[str, tuple[int, ...]]) -> Views:
    """Choose the number of views for which the teacher's outputs are stored.

    A view is one augmented version of each training image. If the experiment file does not set the number, the number
    depends on the storage budget and on the epochs of the student that is trained longest:

    - Without augmentation, all views are equal. One view is stored if it fits into the budget.
    - With augmentation, one view per epoch is stored. If these views do not fit into the budget but at least 4
      views do, as many views as possible are stored.
    - In all other cases, nothing is stored, and the teacher computes its outputs during the training of the students.

    Args:
        shapes: Shape of one example's features, for each layer of the teacher whose features a variant needs.

    Raises:
        UserError: the number of views that the file sets does not fit into the budget.
    """
    required, budget = experiment.knowledge.views, experiment.knowledge.budget
    students = [experiment.student_of(variant) for variant in experiment.variants]
    epochs = max(student.epochs for student in students) if experiment.student_augment else 1
    example = HALF * (len(data.classes) * len(experiment.teacher.members) + sum(map(prod, shapes.values())))
    view, validation = (example * data.examples[split] for split in ("taught", "validation"))
    fit = max(0, (budget - validation) // view)
    if required == "auto":
        enough = min(FEWEST, epochs)
        count = min(epochs, fit) if fit >= enough else 0
        size = _size(view * (count or enough) + validation)
        sizes = f"take {size}" if count else f"{_views(enough)} would take {size}"
        reason = f"{sizes}; the budget is {_size(budget)}"
    else:
        count = min(required, epochs)
        size = _size(view * count + validation)
        if count > fit:
            raise UserError(
                f"knowledge.views: {_views(count)} take {size}, and knowledge.budget is {_size(budget)}. Allowed: "
                f"{f'at most {fit}' if fit else '0 (a live teacher)'}, auto, or a larger budget"
            )
        reason = f"set in the file{f'; take {size}' if count else ''}"
    return Views(count=count, reason=reason)


def _views(count: int) -> str:
    return f"{count} view{'s' if count > 1 else ''}"


def _size(count: int) -> str:
    return ByteSize(count).human_readable(decimal=True)
