"""The values with which a tuned student was trained, and the number of settings that were tried.

The params of a student's run hold the values of the experiment file. The tags hold the values that the search chose.
A chosen weight is a factor, by which the weight in the experiment file is multiplied. This module combines the params
and the tags.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from tasks.references import CALIBRATED, StudentReference
from tasks.tracking.tags import Tag

CHOSEN = f"{Tag.TUNED}."


def trained_with(params: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, float] | None:
    """Return the learning rate, the weight of each term and the tuned hyperparameters of a student.

    A weight that is `auto` in the experiment file is left out until it has been calibrated.

    Args:
        params: The params of the student's run.
        tags: The tags of the student's run.

    Returns:
        The values by name, e.g. `lr`, `soft_targets.weight`, `soft_targets.temperature`. `None` if the student is not
        tuned.

    >>> terms = {"terms.0.loss": "soft_targets", "terms.0.weight": "0.5"}
    >>> trained_with(terms, {"kd.tuned.lr": "0.01", "kd.tuned.soft_targets.weight": "3"})
    {'lr': 0.01, 'soft_targets.weight': 1.5}
    """
    chosen = {name.removeprefix(CHOSEN): float(value) for name, value in tags.items() if name.startswith(CHOSEN)}
    if not chosen:
        return None
    values = {name: value for name, value in chosen.items() if not name.endswith(".weight")}
    for name, loss in params.items():
        if not (name.startswith("terms.") and name.endswith(".loss")):
            continue
        number = params.get(f"{name.removesuffix('.loss')}.weight")  # None if the weight is calibrated
        if CALIBRATED + loss in params:
            values[f"{loss}.weight"] = float(params[CALIBRATED + loss])
        elif number is not None:
            values[f"{loss}.weight"] = float(number) * chosen.get(f"{loss}.weight", 1.0)
    return {name: values[name] for name in sorted(values, key=lambda name: (name.rpartition(".")[0], name))}


def tuning_in_words(students: Sequence[StudentReference]) -> str:
    """Describe how many settings were tried for each student: the trials of a search, and the points of a grid.

    >>> kd = StudentReference(
    ...     variant="kd", run_id="1", status="FINISHED", reused=False, seeds=[0], metrics={}, per_seed={}, parameters=1
    ... )
    >>> tuning_in_words([kd])
    'untuned'
    >>> tuning_in_words([kd.model_copy(update={"trials": 12})])
    'tuned, 12 trials each'
    >>> tuning_in_words([kd.model_copy(update={"grid": "kd"})] * 3)
    'untuned, but kd was tried with 3 settings, its control with 1'
    """
    counts = sorted({student.trials or 0 for student in students if student.finished})
    words = f"tuned, {' or '.join(map(str, counts))} trials each" if any(counts) else "untuned"
    grids = Counter(student.grid for student in students if student.grid)
    tried = [f"{name} was tried with {count} settings" for name, count in grids.items() if count > 1]
    return f"{words}, but {', '.join(tried)}, its control with 1" if tried else words
