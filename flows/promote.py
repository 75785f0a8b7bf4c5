"""`kd promote` and `kd rollback`: the gate asked again, and its undoing. They need no Prefect server."""

from collections.abc import Collection

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.data import found_again
from tasks.promotion import promote_student
from tasks.references import LeaderboardReference, StudentReference, VerdictReference
from tasks.results import ALL, ROWS, TEACHER, latest_comparison
from tasks.steps import alone


def find(word: str | None) -> tuple[tracking.Run, str]:
    """The newest comparison that a RUN is or is in, and the student of it that is meant: its winner, or the one named.

    Args:
        word: None is the latest comparison.

    Raises:
        UserError: no such run, or not one of a finished student.
    """
    tracking.configure()
    run = latest_comparison() if word is None else tracking.find(word)
    if run.kind not in ("comparison", "student"):
        raise UserError(f"run {run.name} is a {run.kind}; allowed: a comparison or a student")
    if run.kind == "student":
        if run.status != "FINISHED":
            raise UserError(f"run {run.name} is {run.status}; allowed: a finished student")
        return _compared(run)
    if not tracking.has_artifact(run.run_id, ROWS):
        raise UserError(f"run {run.name} ({run.status}) has no leaderboard: none of its students was compared")
    if "kd.winner" not in run.tags:
        raise UserError(f"run {run.name} has no winner: none of its students finished")
    return run, run.tags["kd.winner"]


def _compared(student: tracking.Run) -> tuple[tracking.Run, str]:
    """The newest comparison that a student is in, trained there or reused, and its name in that one."""
    for comparison in tracking.runs(kind="comparison", limit=ALL):
        rows = tracking.read_json(comparison.run_id, ROWS) if tracking.has_artifact(comparison.run_id, ROWS) else []
        for row in rows:
            if row["run_id"] == student.run_id:
                return comparison, row["variant"]
            if student.run_id in row.get("folds", []):
                first = row["run_id"]
                raise UserError(f"run {student.name} is of another fold than the first, {first}, which is promoted")
    raise UserError(f"run {student.name} is in no leaderboard: the run that trained it ended before it was compared")


def promote(
    word: str | None = None,
    *,
    data_dir: str | None = None,
    force: str | None = None,
    dry_run: bool = False,
    code: Collection[str] = (),
) -> VerdictReference:
    """Send a comparison's winner, or one student, through the gate.

    Args:
        word: a RUN; None is the latest comparison.
        data_dir: the folder of the data's files; None is the one that the comparison read.
        force: why it shall be the champion even where the gate refuses.
        code: the modules that the user named, whose code a stored network or data source may run.
        dry_run: only say what the gate says; looks at the test split and reads of it are counted.

    Raises:
        UserError: as `find`; the data can't be read, or the champion can't be compared with.
    """
    parent, chosen = find(word)
    experiment = Experiment.model_validate(tracking.read_json(parent.run_id, "experiment.json"))
    students = [StudentReference.model_validate(row) for row in tracking.read_json(parent.run_id, ROWS)]
    run_id = next(student.run_id for student in students if student.variant == chosen)
    assert run_id is not None
    data = found_again(parent, tracking.get(run_id), data_dir, code)
    leaderboard = LeaderboardReference(
        parent_run_id=parent.run_id, teacher_run_id=parent.tags.get(TEACHER), students=students, winner=chosen
    )
    return promote_student.fn(
        leaderboard,
        experiment.promote,
        data,
        code=code,
        asked=word is not None,
        force=force,
        dry_run=dry_run,
    )


def rollback(model: str, to: int | None = None) -> tracking.Version:
    """Make the previous champion, or the version `to`, the champion again.

    Raises:
        UserError: no such model or version, it is the champion, or there is no previous champion.
    """
    tracking.configure()
    with alone(f"model {model}"):
        return tracking.rollback(model, to)
