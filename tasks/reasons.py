"""Why a step of the plan is not reused: what changed since an earlier run, or what is left of one."""

import json

from tasks import tracking
from tasks.leftovers import interrupted, last_epoch
from tasks.references import CODE, Step


def explained(step: Step, recent: list[tracking.Run], experiment: str) -> Step:
    """Why there is nothing to reuse; where a run differs in its seeds alone, what it has is taken over."""
    same = [run for run in recent if run.status == "FINISHED" and run.tags.get("kd.replicas") == step.replicas]
    if same:
        have = {run.run_id: set(json.loads(run.tags["kd.seeds"])) & set(step.seeds) for run in same}
        best = max(have, key=lambda run_id: len(have[run_id]))
        if have[best]:
            missing = sorted(set(step.seeds) - have[best])
            reason = f"run {best[:8]} has seeds {_listed(have[best])}; " + (
                f"seeds {_listed(missing)} are missing" if missing else "no more are asked for"
            )
            return step.model_copy(update={"action": "extend", "reason": reason, "source": best})
    if run := interrupted(step, experiment):
        epoch = last_epoch(step)
        told = f"run {run.run_id[:8]} was interrupted {f'after epoch {epoch}' if epoch else 'when it had just begun'}"
        return step.model_copy(update={"action": "resume", "reason": told, "source": run.run_id})
    earlier = [run for run in recent if run.kind == step.kind and run.name == step.name]
    if not earlier:
        return step.model_copy(update={"reason": "new: it has not run before"})
    if earlier[0].status != "FINISHED" and earlier[0].key == step.key:
        return step.model_copy(update={"reason": f"run {earlier[0].run_id[:8]} is {earlier[0].status}"})
    nearest = min((_changes(step, run) for run in earlier), key=len)
    told = ", ".join(nearest[:4]) + (f" and {len(nearest) - 4} more" if len(nearest) > 4 else "")
    return step.model_copy(update={"reason": told})


def _changes(step: Step, run: tracking.Run) -> list[str]:
    """What differs between a step and a run of the same name, in words."""
    wanted = {name: str(value) for name, value in step.params.items()} | {"seeds": str(step.seeds)}
    if ("members" in wanted) != ("members" in run.params):
        return ["it is an ensemble now" if "members" in wanted else "it is one network now"]
    told = {"teacher": "its teacher changed", "data.digest": "the data changed", "members": "its members changed"}
    if CODE in run.params:  # recorded when a digest of the code was in every key
        told |= {CODE: "kdflow's code changed"}
        wanted = {name: value for name, value in wanted.items() if not name.startswith(f"{CODE}.")}
    changed = [name for name in sorted(wanted.keys() | run.params.keys()) if wanted.get(name) != run.params.get(name)]
    lines = [(name, _changed_code(name, run.params.get(name), wanted.get(name))) for name in changed]
    reasons = [
        told.get(name) or line or f"{name}: {run.params.get(name, 'absent')} -> {wanted.get(name, 'absent')}"
        for name, line in lines
        if line is not None
    ]
    return reasons or ["kdflow's results changed"]


def _changed_code(name: str, before: str | None, now: str | None) -> str | None:
    """Say which code changed; empty for a param that is about something else, None for what another param tells."""
    kind, _, part = name.partition(".")
    if kind == CODE and part:
        return f"kdflow's results of {part} changed" if before and now else None
    if kind != "source" or part.endswith(" version"):
        return ""
    return f"{part} changed" if before and now else f"{part} is {'new' if now else 'gone'}"


def _listed(seeds: set[int] | list[int]) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))
