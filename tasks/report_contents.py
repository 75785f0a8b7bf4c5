"""The contents of a comparison's report, read from the store.

This module imports neither torch nor prefect, so that `kd report` starts quickly.
"""

from datetime import UTC, datetime

from kdmodels.errors import UserError
from kdmodels.evaluation.ranking import winner
from kdmodels.evaluation.requirements import Rule
from kdmodels.report.contents import Contents, Teacher, Verdict
from kdmodels.report.leaderboard import costs, leaderboard
from tasks import results, tracking
from tasks.references import StudentReference, VerdictReference
from tasks.results import ACCURACY, ROWS, SIZE, VERDICT
from tasks.tracking.tags import Tag
from tasks.tuned_values import tuning_in_words


def find_comparison(word: str | None) -> tracking.Run:
    """Return the comparison that the user names by its run or by the run of one of its students.

    Args:
        word: A run's name or id. Default: the latest comparison.

    Raises:
        UserError: there is no such run, or it belongs to no comparison with a leaderboard.
    """
    tracking.configure()
    run = results.latest_comparison() if word is None else tracking.find(word)
    comparison = tracking.get(run.parent) if run.parent else run
    if comparison.kind != "comparison":
        raise UserError(f"run {run.name} ({run.run_id}) belongs to no comparison, so it has no report")
    if not tracking.has_artifact(comparison.run_id, ROWS):
        raise UserError(f"run {comparison.name} ({comparison.status}) has no leaderboard, so it has no report")
    return comparison


def read_contents(comparison: tracking.Run) -> Contents:
    """Return the contents of a comparison's report. The comparison has a leaderboard."""
    run_id = comparison.run_id
    students = [StudentReference.model_validate(row) for row in tracking.read_json(run_id, ROWS)]
    best = winner(students)
    return Contents(
        experiment=comparison.experiment,
        run_id=run_id,
        started=datetime.fromtimestamp(comparison.start / 1000, UTC).isoformat(timespec="seconds"),
        verdict=_verdict(run_id),
        rows=leaderboard(students, results.correctness(comparison)),
        winner=best.variant if best else None,
        teacher=_teacher(comparison.tags.get(Tag.TEACHER_RUN)),
        tuning=tuning_in_words(students),
        notes=[comparison.tags[Tag.NOTE]] if Tag.NOTE in comparison.tags else [],
    )


def _verdict(run_id: str) -> Verdict | None:
    if not tracking.has_artifact(run_id, VERDICT):
        return None
    stored = VerdictReference.model_validate(tracking.read_json(run_id, VERDICT))
    return Verdict(
        reason=stored.reason,
        model=stored.model,
        version=stored.version,
        promoted=stored.promoted,
        test_accuracy=stored.test_accuracy,
        rules=[Rule(**rule) for name in ("budgets", "succession") for rule in stored.evidence.get(name, [])],
    )


def _teacher(run_id: str | None) -> Teacher | None:
    if run_id is None:
        return None
    metrics = tracking.get(run_id).metrics
    parameters = int(metrics[SIZE]) if SIZE in metrics else None
    return Teacher(metrics[ACCURACY], costs(parameters, metrics))
