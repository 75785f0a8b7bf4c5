"""Functions that print the outcome of a run and the verdict of the promotion gate.

The promotion gate decides whether a student replaces the champion, which is the registered model in use.
"""

from collections.abc import Iterable, Mapping

from kd.console import print_entry, print_table
from kd.leaderboard import network_in_words, print_leaderboard
from kdmodels.evaluation.correctness import UNKNOWN, Correctness
from kdmodels.evaluation.requirements import Rule
from kdmodels.report.formats import metric, percent
from tasks.references import GeneratorVerdict, Outcome, VerdictReference
from tasks.results import winner_metrics


def print_outcome(outcome: Outcome, correctness: Mapping[str, Correctness] = UNKNOWN, *, details: bool = False) -> None:
    """Print the verdict, the leaderboard, and commands that the user can run next.

    Args:
        correctness: Which validation examples each student classifies correctly, by the id of the student's run.
        details: Whether to also print the details. The details are more tables of the leaderboard, and the duration of
            each stage of the run.
    """
    verdict = outcome.verdict
    print_verdict(verdict)
    print_leaderboard(outcome.students, correctness, details=details)
    if teacher := network_in_words(outcome.teacher.metrics):
        print_entry("teacher", teacher)
    for note in outcome.notes:
        print_entry("note", note)
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in outcome.seconds.items() if stage != "total")
    print_entry("seconds", f"{outcome.seconds['total']:.1f}" + (f" ({stages})" if details else ""))
    predict = [f"kd predict {verdict.model} IMAGE..."] if verdict.version else []
    print_entry(
        "next", ", ".join(["kd report --open", "kd compare --details", *_show_tuned(outcome), "kd ui", *predict])
    )


def _show_tuned(outcome: Outcome) -> list[str]:
    """Return the command that shows the winner's tuned values, as a list. Without tuning, the list is empty."""
    winner = outcome.verdict.winner
    return [
        f"kd show {student.run_id[:8]}"
        for student in outcome.students
        if student.variant == winner and student.trials and student.run_id
    ]


def print_verdict(verdict: VerdictReference) -> None:
    """Print the verdict of the promotion gate, the champion, and the accuracies on the test split.

    After a dry run, also print the result of each rule of the gate.
    """
    prefix = "dry run, nothing is promoted: " if verdict.dry_run else ""
    print_entry("verdict", f"{prefix}{verdict.reason}", style="bold")
    champion = f"models:/{verdict.model}/{verdict.version}" if verdict.version else f"{verdict.model} has none"
    print_entry("champion", champion)
    accuracies = [
        f"{name} {percent(accuracy)}{' (winner)' if name == verdict.winner else ''}"
        for name, accuracy in verdict.test_accuracy.items()
    ]
    metrics = [f"{name} {metric(value)}" for name, value in winner_metrics(verdict).items()]
    print_entry("test", "; ".join(filter(None, (", ".join(accuracies), ", ".join(metrics)))))
    if verdict.dry_run:
        _print_rules(Rule(**rule) for name in ("budgets", "succession") for rule in verdict.evidence.get(name, []))


def print_generator_verdict(verdict: GeneratorVerdict) -> None:
    """Print the verdict on a generator, the champion, and the generator's measures on the test split."""
    print_entry("verdict", verdict.reason, style="bold")
    champion = f"models:/{verdict.model}/{verdict.version}" if verdict.version else f"{verdict.model} has none"
    print_entry("champion", champion)
    measures = [f"{name.removeprefix('test/').replace('_', ' ')} {value:.4g}" for name, value in verdict.test.items()]
    if measures:
        print_entry("test", ", ".join(measures))


def _print_rules(rules: Iterable[Rule]) -> None:
    rows = [
        {
            "rule": f"{rule.name} {rule.about}".strip(),
            "measured": f"{rule.value:,}" if isinstance(rule.value, int) else f"{rule.value:.4g}",
            "required": rule.bound,
            "holds": rule.holds,
        }
        for rule in rules
    ]
    if rows:
        print_table(rows, {key: key for key in rows[0]})
