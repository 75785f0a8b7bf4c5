"""compare_students: rank the students of a comparison and store the leaderboard with the comparison's run."""

from collections.abc import Sequence

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.errors import UserError
from kdmodels.evaluation.correctness import Correctness
from kdmodels.evaluation.ranking import winner
from kdmodels.files.temporary import temporary_folder
from kdmodels.report.leaderboard import leaderboard
from kdmodels.report.tables import to_frame
from tasks import tracking
from tasks.references import LeaderboardReference, StudentReference, TeacherReference
from tasks.results import (
    ACCURACY,
    CORRECTNESS,
    OWN,
    RATIO,
    ROWS,
    SIZE,
    STUDENT_CORRECTNESS,
    TEACHER_ACCURACY,
    read_correctness,
    write_correctness,
)
from tasks.tracking.tags import Tag

LARGEST_RATIO = 10.0  # a ratio of gradient norms above this number or below its inverse is reported


@task(task_run_name="compare_students", cache_policy=NO_CACHE)
def compare_students(
    students: Sequence[StudentReference], teacher: TeacherReference, parent: str, warnings: Sequence[str] = ()
) -> LeaderboardReference:
    """Rank the students by mean validation accuracy, and record the leaderboard with the comparison's run.

    Args:
        students: The leaderboard rows of all students, including failed students.
        teacher: The teacher of the comparison. Its warnings become notes of the leaderboard.
        parent: The id of the comparison's run.
        warnings: The warnings of the plan. These warnings become notes of the leaderboard too.

    Raises:
        UserError: no student has finished.
    """
    tracking.configure()
    best = winner(students)
    tracking.log_json(parent, ROWS, [student.model_dump(mode="json") for student in students])
    correctness = _correctness(students)
    tracking.log_table(parent, "leaderboard.csv", to_frame(leaderboard(students, correctness)))
    if best is None:
        problems = "; ".join(f"{student.variant}: {student.error or student.status}" for student in students)
        raise UserError(f"no student finished: {problems}")
    _log_correctness(parent, correctness)
    assert best.run_id is not None
    tracking.set_tags(parent, {Tag.WINNER: best.variant, Tag.WINNER_RUN: best.run_id, Tag.TEACHER_RUN: teacher.run_id})
    figures = {name: best.metrics[name] for name in (ACCURACY, SIZE)} | {TEACHER_ACCURACY: teacher.metrics[ACCURACY]}
    tracking.log_metrics(parent, [(name, value, 0) for name, value in figures.items()])
    weak = weak_teacher(students, teacher.metrics[ACCURACY])
    notes = [*warnings, *teacher.warnings, *weak, *extreme_weights(students)]
    if notes:
        tracking.set_tags(parent, {Tag.NOTE: "; ".join(notes)})
    return LeaderboardReference(
        parent_run_id=parent,
        teacher_run_id=teacher.run_id,
        students=list(students),
        winner=best.variant,
        notes=notes,
    )


def _correctness(students: Sequence[StudentReference]) -> dict[str, Correctness]:
    """Return which validation examples each finished student classifies correctly, by run id.

    With cross-validation, the examples of all folds of a student are joined.
    """
    correctness: dict[str, Correctness] = {}
    for student in students:
        if student.run_id and student.finished:
            run_ids = student.folds or [student.run_id]
            parts = [read_correctness(tracking.artifact(run_id, STUDENT_CORRECTNESS))[OWN] for run_id in run_ids]
            split = "+".join(part.split for part in parts)
            outcomes = np.concatenate([part.outcomes for part in parts], axis=1)  # (S, N of all folds)
            correctness[student.run_id] = Correctness(split, outcomes)
    return correctness


def _log_correctness(parent: str, correctness: dict[str, Correctness]) -> None:
    """Store with the comparison's run which validation examples each student classifies correctly."""
    with temporary_folder() as folder:
        write_correctness(folder / CORRECTNESS, correctness)
        tracking.log_folder(parent, folder)


def extreme_weights(students: Sequence[StudentReference]) -> list[str]:
    """Return a note for each loss term whose gradient is much larger or smaller than the gradient of cross entropy.

    The norms of the gradients are compared at the start of the training. A note is written if their ratio is above
    `LARGEST_RATIO` or below its inverse.
    """
    notes = []
    for student in students:
        for name, ratio in student.metrics.items():
            if name.startswith(RATIO) and not LARGEST_RATIO >= ratio >= 1 / LARGEST_RATIO:
                notes.append(
                    f"{student.variant}: at the start, the gradient of {name.removeprefix(RATIO)} is {ratio:.2g} times "
                    "that of cross entropy at weight 1. To make both equal, use weight: auto"
                )
    return notes


def weak_teacher(students: Sequence[StudentReference], accuracy: float) -> list[str]:
    """Return a note for each control that is at least as accurate as the teacher on the validation split.

    A control is a variant that is trained without a teacher. Distilled variants are compared with their control.

    Args:
        accuracy: The teacher's validation accuracy, from 0 to 1.
    """
    controls = {student.control for student in students}
    return [
        f"the teacher ({100 * accuracy:.2f} %) is no better on validation than {student.variant} "
        f"({100 * student.accuracy:.2f} %), which was trained without a teacher: expect little gain from distillation"
        for student in students
        if student.variant in controls and student.finished and student.accuracy >= accuracy
    ]
