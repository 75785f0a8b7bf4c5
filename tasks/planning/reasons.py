"""The reasons for cache misses.

A cache miss means that no finished run has the key of the planned run. The reason names the changes since an earlier
run. After a cache miss, parts of an earlier run may still be reused.
"""

import json
from collections.abc import Collection

from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.cleanup.leftovers import interrupted, last_epoch
from tasks.references import CALIBRATED, CODE, PlannedRun
from tasks.tracking.tags import Tag


def explain_miss(step: PlannedRun, recent: list[tracking.Run], experiment: str) -> PlannedRun:
    """Choose the action of a planned run after a cache miss, and explain the miss.

    - `extend`: A finished run differs only in its seeds. Its replicas for the same seeds are reused. A replica is the
      network that is trained with one seed.
    - `resume`: An interrupted run has the same key.
    - `train`: There is no such run.

    Args:
        recent: The experiment's newest runs, newest first.
        experiment: Name of the experiment.

    Returns:
        A copy of the planned run with the action and the reason.
    """
    if extended := _extend(step, recent):
        return extended
    if run := interrupted(step, experiment):
        epoch = last_epoch(step)
        when = f"after epoch {epoch}" if epoch else "before the end of its first epoch"
        reason = f"run {run.run_id[:8]} was interrupted {when}"
        return step.model_copy(update={"action": "resume", "reason": reason, "source": run.run_id})
    return step.model_copy(update={"reason": _reason(step, recent)})


def _extend(step: PlannedRun, recent: list[tracking.Run]) -> PlannedRun | None:
    """Return the planned run with the action `extend`, if a finished run differs only in its seeds.

    Of several such runs, the run with the most seeds in common is chosen. If no run has a seed in common, return
    `None`.
    """
    same = [run for run in recent if run.status == RunStatus.FINISHED and run.tags.get(Tag.REPLICAS) == step.replicas]
    shared = {run.run_id: set(json.loads(run.tags[Tag.SEEDS])) & set(step.seeds) for run in same}
    best = max(shared, key=lambda run_id: len(shared[run_id]), default=None)
    if best is None or not shared[best]:
        return None
    missing = set(step.seeds) - shared[best]
    rest = f"seeds {_listed(missing)} are missing" if missing else "no other seeds are needed"
    reason = f"run {best[:8]} has seeds {_listed(shared[best])}; {rest}"
    return step.model_copy(update={"action": "extend", "reason": reason, "source": best})


def _reason(step: PlannedRun, recent: list[tracking.Run]) -> str:
    """Describe what changed since the most similar earlier run of the same name."""
    earlier = [run for run in recent if run.kind == step.kind and run.name == step.name]
    if not earlier:
        return "new: it has not run before"
    if earlier[0].status != RunStatus.FINISHED and earlier[0].key == step.key:
        return f"run {earlier[0].run_id[:8]} is {earlier[0].status}"
    nearest = min((_changes(step, run) for run in earlier), key=len)
    return ", ".join(nearest[:4]) + (f" and {len(nearest) - 4} more" if len(nearest) > 4 else "")


def _changes(step: PlannedRun, run: tracking.Run) -> list[str]:
    """Describe the differences between a planned run and an earlier run of the same name."""
    planned = {name: str(value) for name, value in step.params.items()} | {"seeds": str(step.seeds)}
    if ("members" in planned) != ("members" in run.params):
        return ["it is an ensemble now" if "members" in planned else "it is one network now"]
    words = {
        "teacher": "its teacher changed",
        "data.digest": "the data changed",
        "data.validation_digest": "the students' validation examples changed",
        "members": "its members changed",
    }
    if CODE in run.params:  # old runs only: their keys included a digest of all code
        words |= {CODE: "kdflow's code changed"}
        planned = {name: value for name, value in planned.items() if not name.startswith(f"{CODE}.")}
    names = sorted(name for name in planned.keys() | run.params.keys() if not name.startswith(CALIBRATED))
    changed = [name for name in names if planned.get(name) != run.params.get(name)]
    lines = [(name, _code_change(name, run.params.get(name), planned.get(name))) for name in changed]
    reasons = [
        words.get(name) or line or f"{name}: {run.params.get(name, 'absent')} -> {planned.get(name, 'absent')}"
        for name, line in lines
        if line is not None
    ]
    return reasons or ["kdflow's results changed"]


def _code_change(name: str, before: str | None, now: str | None) -> str | None:
    """Describe the change of a param that holds a version or digest of code.

    Args:
        name: The name of the param.
        before: The value of the param in the earlier run. If the run does not have the param, the value is `None`.
        now: The value of the param in the planned run. If the run does not have the param, the value is `None`.

    Returns:
        The description of the change. If the param holds no version or digest of code, the description is empty. If
        another param describes the same change, the result is `None`.
    """
    kind, _, part = name.partition(".")
    if kind == CODE and part:
        return f"kdflow's results of {part} changed" if before and now else None
    if kind != "source" or part.endswith(" version"):
        return ""
    return f"{part} changed" if before and now else f"{part} is {'new' if now else 'gone'}"


def _listed(seeds: Collection[int]) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))
