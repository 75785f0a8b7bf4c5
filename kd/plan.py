"""A function that prints the plan of `kd run --dry-run`."""

from collections.abc import Sequence

from kd.console import print_entry, print_table
from tasks.references import Plan, PlannedRun

COLUMNS = {"name": "name", "action": "action", "reason": "reason"}


def print_plan(plan: Plan) -> None:
    """Print the planned action for the teacher and for each student, with the reason for the action."""
    rows = _rows(plan.steps)
    if plan.taught:
        knowledge = {"name": "knowledge", "action": plan.knowledge.action, "reason": plan.knowledge.reason}
        rows.insert(len(plan.members) + 1, knowledge)
    print_table(rows, COLUMNS)
    if plan.searches:
        print_entry("tuning", searches_in_words(plan.searches))
    if plan.cluster:
        print_entry("runner", plan.cluster)
    for warning in plan.warnings:
        print_entry("warning", warning)
    for note in plan.notes:
        print_entry("data", note)


def print_steps(steps: Sequence[PlannedRun]) -> None:
    """Print the planned action for each run, with the reason for the action."""
    print_table(_rows(steps), COLUMNS)


def _rows(steps: Sequence[PlannedRun]) -> list[dict[str, str]]:
    return [
        {"name": step.name, "action": step.action_in_words, "reason": "; ".join(filter(None, (step.reason, step.note)))}
        for step in steps
    ]


def searches_in_words(searches: Sequence[PlannedRun]) -> str:
    """Describe how many trials the searches for hyperparameters will run, and how many searches are reused."""
    trials = [int(str(step.params["tune.trials"])) for step in searches if step.action != "reuse"]
    reused = len(searches) - len(trials)
    words = [f"{sum(trials)} trials for {len(trials)} variant{'s' * (len(trials) != 1)}"] if trials else []
    words += [f"{reused} search{' is' if reused == 1 else 'es are'} reused"] if reused else []
    return "; ".join(words)
