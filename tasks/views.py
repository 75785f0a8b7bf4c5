"""How many views of the teacher's knowledge are stored, or whether it runs beside the student: chosen in the plan."""

from collections.abc import Mapping
from math import prod

from pydantic import ByteSize

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from tasks.references import DataReference, Views

HALF = 2  # bytes of a value, as it is stored but where it would not fit
FEWEST = 4  # views of each image that an augmentation is worth storing for


def choose_views(experiment: Experiment, data: DataReference, shapes: Mapping[str, tuple[int, ...]]) -> Views:
    """Let what the file says, the budget and the longest student's epochs decide.

    Without augmentation all views are the same, and one is stored if it fits. With it, one for each epoch is stored, or
    as many as fit if these are at least 4; else the teacher is live.

    Args:
        shapes: of one example's features at each of the teacher's places that any variant taps.

    Raises:
        UserError: the number of views that is asked for does not fit the budget.
    """
    asked, budget = experiment.knowledge.views, experiment.knowledge.budget
    epochs = max(experiment.student_of(variant).epochs for variant in experiment.variants) if data.data.augment else 1
    example = HALF * (len(data.classes) * len(experiment.teacher.members) + sum(map(prod, shapes.values())))
    view, validation = (example * data.examples[split] for split in ("taught", "validation"))
    fit = max(0, (budget - validation) // view)
    if asked == "auto":
        enough = min(FEWEST, epochs)
        count = min(epochs, fit) if fit >= enough else 0
        size = _size(view * (count or enough) + validation)
        told = f"take {size}" if count else f"{_views(enough)} would take {size}"
        reason = f"{told}, the budget being {_size(budget)}"
    else:
        count = min(asked, epochs)
        size = _size(view * count + validation)
        if count > fit:
            raise UserError(
                f"knowledge.views: {_views(count)} take {size}, and knowledge.budget is {_size(budget)}; allowed: "
                f"{f'at most {fit}' if fit else '0 (a live teacher)'}, auto, or a larger budget"
            )
        reason = f"asked for{f'; take {size}' if count else ''}"
    return Views(count=count, reason=reason)


def _views(count: int) -> str:
    return f"{count} view{'s' if count > 1 else ''}"


def _size(count: int) -> str:
    return ByteSize(count).human_readable(decimal=True)
