"""Functions that find the runs that must be kept because a model, a comparison or a running command needs them."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.results import PLAN, ROWS
from tasks.tracking.tags import Tag


def needed(runs: Sequence[tracking.Run], registered: Iterable[str], since: float) -> set[str]:
    """Return the ids of the runs that must be kept.

    These runs are kept:

    1. Runs that have not ended, and runs that ended at `since` or later.
    2. For each registered model: its run, the comparison or generation that trained the model, and the newest
       comparison that contains the model.
    3. For each comparison in 1 and 2: the comparison's teacher, and the students in its leaderboard. The students are
       kept even if another comparison trained them.
    4. For each generation in 1 and 2: its judge and its generator.
    5. For each kept run: the runs that are needed to show or export the kept run. These are the comparison or
       generation that started the kept run, the teacher and the search of a student, and the members of an ensemble.
    6. While a comparison runs: the runs that store prepared datasets, because its workers may read the data.

    Args:
        runs: All runs, newest first. If one of several runs is enough, the newest of these runs is kept.
        registered: Ids of the runs of registered models.
        since: Time from which runs are kept, in ms since 1970.
    """
    by_id = {run.run_id: run for run in runs}
    students = {run.run_id: compared_students(run.run_id) for run in runs if run.kind in tracking.PARENTS}
    roots = {*registered, *(run.run_id for run in runs if run.end is None or run.end >= since)}
    comparisons = roots & students.keys()
    if _running(runs):
        roots |= {run.run_id for run in runs if Tag.STORED_DATA in run.tags}
    for run_id in registered:
        comparisons |= {parent for parent in _parent(by_id.get(run_id)) if parent in students}
        comparisons |= set([comparison for comparison, ids in students.items() if run_id in ids][:1])
    pending = [*roots, *comparisons]
    for run_id in comparisons:
        pending += [*students[run_id], *_parts(by_id[run_id], runs)]
    kept: set[str] = set()
    while pending:
        run_id = pending.pop()
        if run_id not in kept:
            kept.add(run_id)
            pending += _needs(by_id.get(run_id), runs)
    return kept


def dependents(runs: Sequence[tracking.Run], chosen: Iterable[str]) -> dict[str, str]:
    """Return the runs that would be incomplete without the chosen runs.

    A child run needs its comparison or generation. A comparison needs its teacher and the students in its leaderboard,
    and a generation needs its judge and its generator. The other needs are those of `needed`, rules 5 and 6.

    Args:
        runs: All runs, newest first.
        chosen: Ids of the chosen runs.

    Returns:
        Mapping from the id of each such run to the id of a run that it needs. The chosen runs are left out.
    """
    holders = [run.run_id for run in runs if Tag.STORED_DATA in run.tags]
    needs = {run.run_id: [*_needs(run, runs), *_contents(run, runs)] for run in runs}
    for run_id in _running(runs):
        needs[run_id] += holders
    reasons: dict[str, str] = {}
    pending = [*chosen]
    lost = {*pending}
    while pending:
        needed_run = pending.pop()
        incomplete = [run_id for run_id, others in needs.items() if needed_run in others and run_id not in lost]
        reasons |= dict.fromkeys(incomplete, needed_run)
        lost |= {*incomplete}
        pending += incomplete
    return reasons


def _contents(whole: tracking.Run, runs: Sequence[tracking.Run]) -> list[str]:
    """Return the ids of the runs that the results of a comparison or generation consist of."""
    if whole.kind not in tracking.PARENTS:
        return []
    plan = tracking.read_json(whole.run_id, PLAN) if tracking.has_artifact(whole.run_id, PLAN) else {}
    if plan and whole.kind == "generation":
        steps = [plan["judge"], plan["generator"]]
    else:
        steps = [step for one in [plan, *plan.get("folds", [])] if plan for step in (*one["members"], one["teacher"])]
    keys = {step["key"] for step in steps if not step["source"]}
    trained = [run.run_id for run in runs if run.key in keys and run.parent == whole.run_id and _is_finished(run)]
    return [*compared_students(whole.run_id), *(step["source"] for step in steps if step["source"]), *trained]


def _is_finished(run: tracking.Run) -> bool:
    return run.status == RunStatus.FINISHED


def in_use(runs: Sequence[tracking.Run]) -> set[str]:
    """Return the ids of all runs that running comparisons and generations have started, have reused or may reuse."""
    running = _running(runs).values()
    return {run_id for whole in running for run_id in _parts(whole, runs)}


def _running(runs: Sequence[tracking.Run]) -> dict[str, tracking.Run]:
    """Return the comparisons and generations that have not ended, by their ids."""
    return {run.run_id: run for run in runs if run.kind in tracking.PARENTS and run.end is None}


def compared_students(comparison: str) -> list[str]:
    """Return the run ids of the students in a comparison's leaderboard. Include all folds of a cross-validation."""
    rows = tracking.read_json(comparison, ROWS) if tracking.has_artifact(comparison, ROWS) else []
    return [run_id for row in rows if row["run_id"] for run_id in row.get("folds") or [row["run_id"]]]


def _parts(comparison: tracking.Run, runs: Sequence[tracking.Run]) -> list[str]:
    """Return the ids of the runs that a comparison or generation started, and of the other runs that it needs.

    The other runs are the teachers of a comparison, or the judge and the generator of a generation. If the comparison
    or generation is still running, include all runs that it may reuse.
    """
    plan = tracking.read_json(comparison.run_id, PLAN) if tracking.has_artifact(comparison.run_id, PLAN) else {}
    if plan and comparison.kind == "generation":
        parts = [plan["judge"], plan["generator"]]
        return _begun(comparison, parts, {part["key"] for part in parts if comparison.end is None}, runs)
    plans = [plan, *plan.get("folds", [])] if plan else []
    steps = [step for one in plans for step in (*one["members"], one["teacher"])]
    keys: set[str] = set()
    if comparison.end is None:
        students = [step for one in plans for step in one["students"]]
        steps += [*students, *(step["tuning"] for step in students if step.get("tuning"))]
        keys = {step["key"] for step in steps}
    return _begun(comparison, steps, keys, runs)


def _begun(
    whole: tracking.Run, steps: Sequence[dict[str, Any]], keys: set[str], runs: Sequence[tracking.Run]
) -> list[str]:
    """Return the ids of the runs that a comparison or generation started or reused, or that have one of the keys."""
    sources = [step["source"] for step in steps if step["source"]]
    return sources + [run.run_id for run in runs if run.parent == whole.run_id or run.key in keys]


def _needs(run: tracking.Run | None, runs: Sequence[tracking.Run]) -> list[str]:
    if run is None:
        return []
    key = run.params.get("teacher")
    wanted = ("teacher", key, RunStatus.FINISHED)
    teachers = [other.run_id for other in runs if key and (other.kind, other.key, other.status) == wanted]
    search = [run.tags[Tag.TUNING]] if Tag.TUNING in run.tags else []
    return [*_parent(run), *teachers[:1], *search, *json.loads(run.tags.get(Tag.MEMBERS, "[]"))]


def _parent(run: tracking.Run | None) -> list[str]:
    return [run.parent] if run and run.parent else []
