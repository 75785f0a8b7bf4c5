"""The command `kd watch`. It follows a comparison that runs in another process."""

from kd import console
from kd.exit_codes import DONE, STUDENTS_FAILED, usage_errors
from kd.options import Run
from kd.outcome import print_verdict
from kd.watching import follow, running_comparison
from kdmodels.errors import CancelledError, UserError
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.cancellation import comparison_of
from tasks.references import StudentReference, VerdictReference
from tasks.results import ROWS, VERDICT
from tasks.tracking.tags import Tag


def command(run: Run = None) -> int:
    """Follow a running comparison until it ends.

    The default is the latest comparison that is running, in whatever process it runs. If it still prepares its data on
    a Prefect server, the command waits. Ctrl-C ends only this command.
    The exit code is that of the comparison's `kd run`. A comparison that has ended is reported at once.
    """
    tracking.configure()
    terminal = console.console(stderr=True)
    if run is None:
        comparison = running_comparison(terminal)
    else:
        with usage_errors():
            comparison = comparison_of(run)
    return _print_end(follow(terminal, comparison))


def _print_end(comparison: tracking.Run) -> int:
    """Print the verdict on a comparison, and the students that failed. Return the exit code.

    Raises:
        CancelledError: Somebody stopped the comparison.
        UserError: The comparison failed before it had a leaderboard.
    """
    run_id, shown = comparison.run_id, f"{comparison.name} ({comparison.run_id})"
    has_leaderboard = tracking.has_artifact(run_id, ROWS)
    if has_leaderboard and tracking.has_artifact(run_id, VERDICT):
        print_verdict(VerdictReference.model_validate(tracking.read_json(run_id, VERDICT)))
    if comparison.status == RunStatus.KILLED:
        request = comparison.tags.get(Tag.CANCEL)
        raise CancelledError(f"{shown} was {f'cancelled by {request}' if request else 'interrupted'}")
    rows = tracking.read_json(run_id, ROWS) if has_leaderboard else []
    failed = [row for row in map(StudentReference.model_validate, rows) if not row.finished]
    for student in failed:
        console.print_entry("failed", f"{student.variant}: {student.error or student.status.lower()}")
    if comparison.status == RunStatus.FAILED and not failed:
        raise UserError(f"{shown} failed: {comparison.tags.get(Tag.ERROR, 'no error was recorded')}")
    console.print_entry("next", f"kd compare {run_id[:8]}, kd report {run_id[:8]} --open")
    return STUDENTS_FAILED if failed else DONE
