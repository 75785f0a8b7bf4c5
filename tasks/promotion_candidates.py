"""The choice of the student that `kd promote` tries to promote."""

from kdmodels.errors import UserError
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.references import LeaderboardReference, StudentReference
from tasks.results import ALL, ROWS, latest_comparison
from tasks.tracking.tags import Tag


def find_candidate(word: str | None) -> tuple[tracking.Run, str]:
    """Return the comparison and the variant that the user wants to promote.

    Args:
        word: The name or id of a run. If the run is a comparison, its winner is returned. If the run is a student, the
            student is returned with the newest comparison that lists the student. Default: the latest comparison.

    Raises:
        UserError: there is no such run, or the run is neither a finished student nor a comparison with a winner.
    """
    tracking.configure()
    run = latest_comparison() if word is None else tracking.find(word)
    if run.kind not in ("comparison", "student"):
        raise UserError(f"run {run.name} is a {run.kind}. Allowed: a comparison or a student.")
    if run.kind == "student":
        if run.status != RunStatus.FINISHED:
            raise UserError(f"run {run.name} is {run.status}. Allowed: a finished student.")
        return _latest_with(run)
    if not tracking.has_artifact(run.run_id, ROWS):
        raise UserError(f"run {run.name} ({run.status}) has no leaderboard: none of its students was compared")
    if Tag.REPRODUCTION in run.tags:
        raise UserError(
            f"run {run.name} belongs to the reproduction {run.tags[Tag.REPRODUCTION]}, which reads the test split for "
            "all its students. Allowed: a comparison of kd run"
        )
    if Tag.WINNER not in run.tags:
        raise UserError(f"run {run.name} has no winner: none of its students finished")
    return run, run.tags[Tag.WINNER]


def recorded_leaderboard(comparison: tracking.Run, variant: str) -> LeaderboardReference:
    """Return the recorded leaderboard of a comparison, with this variant as the winner."""
    students = [StudentReference.model_validate(row) for row in tracking.read_json(comparison.run_id, ROWS)]
    return LeaderboardReference(
        parent_run_id=comparison.run_id,
        teacher_run_id=comparison.tags.get(Tag.TEACHER_RUN),
        students=students,
        winner=variant,
    )


def _latest_with(student: tracking.Run) -> tuple[tracking.Run, str]:
    """Return the newest comparison that lists a student, and the name of the student's variant in this comparison."""
    comparisons = tracking.runs(kind="comparison", limit=ALL)
    for comparison in [run for run in comparisons if Tag.REPRODUCTION not in run.tags]:
        rows = tracking.read_json(comparison.run_id, ROWS) if tracking.has_artifact(comparison.run_id, ROWS) else []
        for row in rows:
            if row["run_id"] == student.run_id:
                return comparison, row["variant"]
            if student.run_id in row.get("folds", []):
                first = row["run_id"]
                raise UserError(
                    f"run {student.name} is of a later fold. Allowed: the student of the first fold, {first}."
                )
    raise UserError(
        f"run {student.name} is in no leaderboard of kd run: its comparison ended before the students were compared, "
        "or belongs to a reproduction"
    )
