"""The command `kd gc`. It deletes old runs and caches."""

from typing import Annotated

import typer
from pydantic import ByteSize

from flows.services.prefect_client import persistent_client
from kd import console
from kd.options import AGES, Json, parse_age
from kdmodels.errors import UsageError
from tasks.cleanup.gc import Collected, Deleted, collect


def command(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Minimum time since the last use, e.g. 12h, 30d or 4w.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted. Delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete old runs and caches that are no longer needed.

    Runs that a registered model or a newer comparison needs are kept.
    """
    age = parse_age(older_than)
    if age is None:
        raise UsageError(f"--older-than: expected an age, e.g. 12h, 30d or 4w, got {older_than!r}. Allowed: {AGES}")

    def report(deleted: Deleted) -> None:
        if not as_json:
            print_deleted(deleted, dry_run=dry_run)

    with persistent_client():  # a team's machines share locks, which are on the team's Prefect server
        collected = collect(age, report, dry_run=dry_run)
    if as_json:
        console.print_json({"dry_run": dry_run, **collected.model_dump()})
    else:
        _print_summary(collected, dry_run=dry_run)


def print_deleted(deleted: Deleted, *, dry_run: bool) -> None:
    """Print the deleted run or cache. In a dry run, print "would delete" instead of "deleted"."""
    where = f" ({deleted.run_id})" if deleted.run_id else f" in {deleted.folder}" if deleted.folder else ""
    size = ByteSize(deleted.bytes).human_readable(decimal=True, separator=" ")
    line = f"{deleted.kind} {deleted.name}{where}, last used {deleted.last_used}, {size}"
    console.console().print(f"{'would delete' if dry_run else 'deleted'} {line}", soft_wrap=True)


def _print_summary(collected: Collected, *, dry_run: bool) -> None:
    """Print how many runs and caches were deleted, their size, and how many old runs are still needed.

    If the tracking store is an MLflow server, also print that the server keeps the files of deleted runs.
    """
    out, size = console.console(), ByteSize(collected.bytes).human_readable(decimal=True, separator=" ")
    out.print(f"{'would delete' if dry_run else 'deleted'} {len(collected.deleted)} in all, {size}", soft_wrap=True)
    if collected.needed:
        reason = "older runs are kept, because a registered model, a newer comparison or a running one needs them"
        out.print(f"{collected.needed} {reason}", soft_wrap=True)
    if not collected.for_good:
        reason = "the MLflow server only marks runs as deleted and keeps their files"
        out.print(f"{reason}; to delete them, run `mlflow gc` on the server's machine", soft_wrap=True)
