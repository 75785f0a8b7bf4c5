"""All runs of the store while no other command plans or promotes, and the order in which runs are deleted."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from tasks import tracking
from tasks.execution.locks import PLANNING
from tasks.execution.team_locks import team_exclusive
from tasks.tracking.tags import Tag


@contextmanager
def locked_runs() -> Iterator[list[tracking.Run]]:
    """Provide all runs, newest first. During the `with` block, no other command plans, promotes or deletes runs.

    If the store can delete runs permanently, the runs include those that are only marked as deleted.
    """
    with ExitStack() as locks:
        # A command holds this lock from planning until its run records which runs the command reuses.
        locks.enter_context(team_exclusive(PLANNING))
        marked = tracking.marked_runs() if tracking.deletes_for_good() else []
        ended = [replace(run, end=run.end or run.start) for run in marked]
        runs = [_aged_since_import(run) for run in (*tracking.every_run(), *ended)]
        for model in sorted({run.params["promote.model"] for run in runs if "promote.model" in run.params}):
            # A command holds this lock while the promotion gate decides and the registry is updated.
            locks.enter_context(team_exclusive(f"model {model}"))
        yield runs


def _aged_since_import(run: tracking.Run) -> tracking.Run:
    """Return the run. If it was imported from a bundle, its end is the time of the import."""
    return replace(run, end=max(run.end, int(run.tags.get(Tag.IMPORTED, 0)))) if run.end else run


def order(run: tracking.Run) -> int:
    """Return the position of a run in the order of deletion.

    A run is deleted before the runs that it refers to. An interrupted deletion then leaves no run whose comparison or
    teacher is missing.
    """
    if run.kind == "teacher":
        return 2 if Tag.MEMBERS in run.tags else 3
    return {"student": 0, "generator": 0, "tuning": 1}.get(str(run.kind), 4)
