"""compare_students: the leaderboard of one command, kept with its comparison run."""

from collections.abc import Sequence

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.errors import UserError
from kdmodels.report.evidence import Right
from kdmodels.report.leaderboard import leaderboard, winner
from kdmodels.temporary import temporary_folder
from tasks import tracking
from tasks.references import LeaderboardReference, StudentReference, TeacherReference
from tasks.results import ACCURACY, OF_SEEDS, OWN, RIGHT, ROWS, SIZE, TEACHER, read_right, write_right


@task(cache_policy=NO_CACHE)
def compare_students(
    students: Sequence[StudentReference], teacher: TeacherReference, parent: str
) -> LeaderboardReference:
    """Rank the students by mean validation accuracy and record the table.

    Raises:
        UserError: none has finished.
    """
    tracking.configure()
    rows = [student.model_dump(mode="json") for student in students]
    best = winner(rows)
    tracking.log_json(parent, ROWS, rows)
    known = _right(students)
    tracking.log_table(parent, "leaderboard.csv", leaderboard(rows, known))
    if best is None:
        told = "; ".join(f"{student.variant}: {student.error or student.status}" for student in students)
        raise UserError(f"no student finished: {told}")
    _log_right(parent, known)
    won = {"kd.winner": best["variant"], "kd.winner_run": best["run_id"], TEACHER: teacher.run_id}
    tracking.set_tags(parent, won)
    tracking.log_metrics(parent, [(name, best["metrics"][name], 0) for name in (ACCURACY, SIZE)])
    notes = weak_teacher(students, teacher.metrics[ACCURACY])
    if notes:
        tracking.set_tags(parent, {"kd.note": "; ".join(notes)})
    return LeaderboardReference(
        parent_run_id=parent,
        teacher_run_id=teacher.run_id,
        students=list(students),
        winner=best["variant"],
        notes=notes,
    )


def _right(students: Sequence[StudentReference]) -> dict[str, Right]:
    """Of all that have finished, reused or not; of cross-validation all folds' examples in one row."""
    found: dict[str, Right] = {}
    for student in students:
        if student.run_id and student.status == "FINISHED":
            run_ids = student.folds or [student.run_id]
            parts = [read_right(tracking.artifact(run_id, OF_SEEDS))[OWN] for run_id in run_ids]
            split = "+".join(part.split for part in parts)
            found[student.run_id] = Right(split, np.concatenate([part.outcomes for part in parts], axis=1))
    return found


def _log_right(parent: str, found: dict[str, Right]) -> None:
    """Once more with the comparison, so that it can be read as a whole."""
    with temporary_folder() as folder:
        write_right(folder / RIGHT, found)
        tracking.log_folder(parent, folder)


def weak_teacher(students: Sequence[StudentReference], accuracy: float) -> list[str]:
    """A line for each control that the teacher's validation accuracy does not exceed."""
    controls = {student.control for student in students}
    return [
        f"the teacher ({100 * accuracy:.2f} %) is no better on validation than {student.variant} "
        f"({100 * student.metrics[ACCURACY]:.2f} %), which had none: do not expect it to teach much"
        for student in students
        if student.variant in controls and student.status == "FINISHED" and student.metrics[ACCURACY] >= accuracy
    ]
