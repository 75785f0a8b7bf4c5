"""Which runs are needed: by a registered model, by a comparison that is kept, or by one that is going on."""

import json
from collections.abc import Iterable, Sequence

from tasks import tracking
from tasks.results import MEMBERS, PLAN, ROWS


def needed(runs: Sequence[tracking.Run], registered: Iterable[str], since: float) -> set[str]:
    """The ids of the runs that must stay; those that have not ended before `since` (ms since 1970) are among them.

    A comparison that stays does so whole: with what its leaderboard refers to, wherever that was trained, and its
    teacher. Those of a registered student are the one that trained it and the last that it was compared in. Any run
    that stays keeps what it can't be shown or exported without: the comparison that began it, a student's teacher, an
    ensemble's members.

    Args:
        runs: all that there are; of several that would do, the first one stays. registered: runs of model versions.
    """
    by_id = {run.run_id: run for run in runs}
    students = {run.run_id: _compared(run.run_id) for run in runs if run.kind == "comparison"}
    roots = {*registered, *(run.run_id for run in runs if run.end is None or run.end >= since)}
    whole = roots & students.keys()
    for run_id in registered:
        whole |= {parent for parent in _parent(by_id.get(run_id)) if parent in students}
        whole |= set([comparison for comparison, ids in students.items() if run_id in ids][:1])
    todo = [*roots, *whole]
    for run_id in whole:
        todo += [*students[run_id], *_parts(by_id[run_id], runs)]
    kept: set[str] = set()
    while todo:
        run_id = todo.pop()
        if run_id not in kept:
            kept.add(run_id)
            todo += _needs(by_id.get(run_id), runs)
    return kept


def in_use(runs: Sequence[tracking.Run]) -> set[str]:
    """The ids of those that a comparison that is going on began, has taken over or may yet."""
    going = [run for run in runs if run.kind == "comparison" and run.end is None]
    return {run_id for comparison in going for run_id in _parts(comparison, runs)}


def _compared(comparison: str) -> list[str]:
    """The students in its leaderboard, with cross-validation those of all folds."""
    rows = tracking.read_json(comparison, ROWS) if tracking.has_artifact(comparison, ROWS) else []
    return [run_id for row in rows if row["run_id"] for run_id in row.get("folds") or [row["run_id"]]]


def _parts(comparison: tracking.Run, runs: Sequence[tracking.Run]) -> list[str]:
    """What it began, and the teacher that it took over; while it runs, also all that it may yet take over."""
    plan = tracking.read_json(comparison.run_id, PLAN) if tracking.has_artifact(comparison.run_id, PLAN) else {}
    plans = [plan, *plan.get("folds", [])] if plan else []
    steps = [step for one in plans for step in (*one["members"], one["teacher"])]
    keys: set[str] = set()
    if comparison.end is None:
        steps += [step for one in plans for step in one["students"]]
        keys = {step["key"] for step in steps}
    sources = [step["source"] for step in steps if step["source"]]
    return sources + [run.run_id for run in runs if run.parent == comparison.run_id or run.key in keys]


def _needs(run: tracking.Run | None, runs: Sequence[tracking.Run]) -> list[str]:
    if run is None:
        return []
    key = run.params.get("teacher")
    teachers = [one.run_id for one in runs if key and (one.kind, one.key, one.status) == ("teacher", key, "FINISHED")]
    return [*_parent(run), *teachers[:1], *json.loads(run.tags.get(MEMBERS, "[]"))]


def _parent(run: tracking.Run | None) -> list[str]:
    return [run.parent] if run and run.parent else []
