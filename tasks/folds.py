"""What cross-validation joins: the references of all folds as one teacher and one student a variant."""

from collections.abc import Sequence

from tasks.references import DataReference, StudentReference, TeacherReference
from tasks.results import ACCURACY

Part = tuple[TeacherReference, list[StudentReference]]


def joined(parts: Sequence[Part], splits: Sequence[DataReference]) -> Part:
    """The first fold's references with the accuracies of all, each example counting once.

    The first fold's networks are those that are stored, measured and promoted: none is better for what it was
    validated on. A student has finished where it has in every fold; else it is the first that has not.

    Args:
        parts: of each fold the teacher and the students. splits: its data.
    """
    if len(parts) == 1:
        return parts[0]
    sizes = [data.examples["validation"] for data in splits]
    teachers, students = zip(*parts, strict=True)
    accuracy = _mean([teacher.metrics[ACCURACY] for teacher in teachers], sizes)
    teacher = teachers[0].model_copy(
        update={
            "reused": all(teacher.reused for teacher in teachers),
            "metrics": teachers[0].metrics | {ACCURACY: accuracy},
        }
    )
    return teacher, [_student(variant, sizes) for variant in zip(*students, strict=True)]


def _student(folds: Sequence[StudentReference], sizes: Sequence[int]) -> StudentReference:
    for number, fold in enumerate(folds, 1):
        if fold.status != "FINISHED":
            return fold.model_copy(update={"error": f"fold {number}/{len(folds)}: {fold.error or fold.status}"})
    columns = zip(*(fold.per_seed[ACCURACY] for fold in folds), strict=True)
    per_seed = [_mean(column, sizes) for column in columns]
    return folds[0].model_copy(
        update={
            "reused": all(fold.reused for fold in folds),
            "metrics": {name: value for name, value in folds[0].metrics.items() if name != f"{ACCURACY}/std"}
            | {ACCURACY: sum(per_seed) / len(per_seed)},
            "per_seed": {ACCURACY: per_seed},
            "folds": [fold.run_id for fold in folds],
        }
    )


def _mean(values: Sequence[float], sizes: Sequence[int]) -> float:
    return sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
