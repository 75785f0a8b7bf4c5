"""The command `kd watch`. It follows a comparison or a generation that runs in another process."""

from kd import console
from kd.exit_codes import DONE, STUDENTS_FAILED, usage_errors
from kd.options import Run
from kd.outcome import print_generator_verdict, print_verdict
from kd.watching import follow, running_whole_run
from kdmodels.errors import CancelledError, UserError
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.cancellation import whole_run_of
from tasks.references import GeneratorVerdict, StudentReference, VerdictReference
from tasks.results import ROWS, VERDICT
from tasks.tracking.tags import Tag


def command(run: Run = None) -> int:
    """Follow a running comparison or generation until it ends.

    A generation is a `kd run` that trains a generator. Without RUN, the latest running comparison or generation is
    followed, whichever process runs it. If this run is still preparing its data on a Prefect server, the command waits.
    If RUN has ended, its result is printed at once. Ctrl-C ends only this command. The exit code is that of the
    `kd run`.
    """
    tracking.configure()
    terminal = console.console(stderr=True)
    if run is None:
        whole = running_whole_run(terminal)
    else:
        with usage_errors():
            whole = whole_run_of(run)
    ended = follow(terminal, whole)
    return _print_end(ended) if ended.kind == "comparison" else _print_end_of_generation(ended)


def _print_end_of_generation(generation: tracking.Run) -> int:
    """Print the verdict on a generator. Return the exit code. The errors are those of `_print_end`."""
    if tracking.has_artifact(generation.run_id, VERDICT):
        print_generator_verdict(GeneratorVerdict.model_validate(tracking.read_json(generation.run_id, VERDICT)))
    _require_not_stopped(generation)
    if generation.status == RunStatus.FAILED:
        raise _failure(generation)
    console.print_entry("next", f"kd show {generation.run_id[:8]}, kd sample {generation.experiment} -o grid.png")
    return DONE


def _require_not_stopped(run: tracking.Run) -> None:
    if run.status == RunStatus.KILLED:
        request = run.tags.get(Tag.CANCEL)
        raise CancelledError(f"{run.name} ({run.run_id}) was {f'cancelled by {request}' if request else 'interrupted'}")


def _failure(run: tracking.Run) -> UserError:
    return UserError(f"{run.name} ({run.run_id}) failed: {run.tags.get(Tag.ERROR, 'no error was recorded')}")


def _print_end(comparison: tracking.Run) -> int:
    """Print the verdict on a comparison, and the students that failed. Return the exit code.

    Raises:
        CancelledError: Somebody stopped the comparison.
        UserError: The comparison failed before it had a leaderboard.
    """
    run_id = comparison.run_id
    has_leaderboard = tracking.has_artifact(run_id, ROWS)
    if has_leaderboard and tracking.has_artifact(run_id, VERDICT):
        print_verdict(VerdictReference.model_validate(tracking.read_json(run_id, VERDICT)))
    _require_not_stopped(comparison)
    rows = tracking.read_json(run_id, ROWS) if has_leaderboard else []
    failed = [row for row in map(StudentReference.model_validate, rows) if not row.finished]
    for student in failed:
        console.print_entry("failed", f"{student.variant}: {student.error or student.status.lower()}")
    if comparison.status == RunStatus.FAILED and not failed:
        raise _failure(comparison)
    console.print_entry("next", f"kd compare {run_id[:8]}, kd report {run_id[:8]} --open")
    return STUDENTS_FAILED if failed else DONE
