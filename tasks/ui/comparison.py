"""A Markdown artifact in Prefect's UI for the result of a comparison, and one for the verdict of a promotion."""

from collections.abc import Mapping, Sequence

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from kdmodels.evaluation.ranking import ranked
from kdmodels.report.markdown import plain, table_lines
from tasks import tracking
from tasks.references import Outcome, Plan, StudentReference, VerdictReference
from tasks.results import ACCURACY, REPORT
from tasks.ui.assets import publish_champion
from tasks.ui.links import artifact_keys, flow_run_url
from tasks.ui.summaries import accuracy

MOST_ROWS = 100  # maximum number of rows in a table; a grid of hyperparameters can have more variants


def publish_comparison(outcome: Outcome, plan: Plan, *, has_report: bool) -> None:
    """Show the verdict, the leaderboard and the plan of a comparison in Prefect's UI, if the server has one.

    If a student became the champion, also publish its model version as an asset.

    Args:
        has_report: Whether the comparison's run has an HTML report.
    """
    if flow_run_url() is not None:
        (key,) = artifact_keys(outcome.experiment, ["comparison"]).values()
        create_markdown_artifact(
            comparison_markdown(outcome, plan, has_report=has_report), key, f"Comparison of {outcome.experiment}"
        )
    publish_champion(outcome.verdict, outcome.teacher.run_id)


def publish_verdict(verdict: VerdictReference, teacher_run_id: str | None) -> None:
    """Show the verdict of a promotion in Prefect's UI, if the server has one. Publish a new champion as an asset."""
    get_run_logger().info(f"promote: {verdict.reason}")
    if flow_run_url() is not None:
        (key,) = artifact_keys(verdict.model, ["verdict"]).values()
        create_markdown_artifact(verdict_markdown(verdict), key, f"Promotion to {verdict.model}")
    publish_champion(verdict, teacher_run_id)


def comparison_markdown(outcome: Outcome, plan: Plan, *, has_report: bool = False) -> str:
    """Return the result of a comparison in Markdown."""
    warnings = [f"- {plain(note)}" for note in outcome.notes]
    return "\n".join(
        [
            f"# {plain(outcome.experiment)}",
            "",
            verdict_markdown(outcome.verdict),
            "",
            f"MLflow run: {_link(outcome.parent_run_id)}",
            *(["", f"Report: {_report_link(outcome.parent_run_id)}"] if has_report else []),
            "",
            "## Leaderboard",
            "",
            *_table(_leaderboard(outcome.students)),
            "",
            f"Teacher: {accuracy(outcome.teacher.metrics)}{', reused' if outcome.teacher.reused else ''}",
            *(["", "## Notes", "", *warnings] if warnings else []),
            "",
            "## Plan",
            "",
            *_table(
                [{"name": step.name, "action": step.action_in_words, "reason": step.reason} for step in plan.steps]
            ),
        ]
    )


def verdict_markdown(verdict: VerdictReference) -> str:
    """Return the verdict of a promotion in Markdown."""
    prefix = "Dry run, nothing is promoted: " if verdict.dry_run else ""
    champion = f"`models:/{verdict.model}/{verdict.version}`" if verdict.version else "none"
    accuracies = [f"{plain(name)} {100 * value:.2f} %" for name, value in verdict.test_accuracy.items()]
    lines = [f"**{prefix}{plain(verdict.reason)}**", f"Champion of {plain(verdict.model)}: {champion}"]
    return "\n\n".join(lines + ([f"Test accuracy: {', '.join(accuracies)}"] if accuracies else []))


def _leaderboard(students: Sequence[StudentReference]) -> list[dict[str, str]]:
    """Return the rows of the leaderboard. Students that did not finish come last and have no rank."""
    order = ranked(students)
    known = {student.variant: student.metrics[ACCURACY] for student in order}
    rows = []
    for rank, student in enumerate(order, 1):
        control = known.get(student.control or "")
        lead = "" if control is None else f"{100 * (student.accuracy - control):+z.2f}"
        rows.append(
            {
                "#": str(rank),
                "variant": student.variant,
                "result": accuracy(student.metrics),
                "points above the control": "" if student.variant == student.control else lead,
                "parameters": f"{student.parameters:,}" if student.parameters else "",
                "training": "reused" if student.reused else "new",
            }
        )
    failed = [student for student in students if not student.finished]
    return rows + [
        {"variant": student.variant, "result": f"{student.status.lower()}: {student.error or ''}"} for student in failed
    ]


def _table(rows: Sequence[Mapping[str, str]]) -> Sequence[str]:
    """Return the lines of a Markdown table, whose columns are those of the first row."""
    columns = list(rows[0])
    cells = [[row.get(column, "") for column in columns] for row in rows]
    return table_lines(columns, cells, most_rows=MOST_ROWS)


def _link(run_id: str) -> str:
    """Return a link to a run in the MLflow UI. If the address is unknown, return the run id and commands instead."""
    url = tracking.run_url(run_id)
    return f"[{run_id}]({url})" if url else f"`{run_id}` (`kd ui` serves the MLflow UI, `kd show {run_id[:8]}` the run)"


def _report_link(run_id: str) -> str:
    """Return a link to a comparison's report in the MLflow UI. If it is unknown, return the `kd report` command."""
    url = tracking.address(tracking.artifact_link(run_id, REPORT))
    return f"[{REPORT}]({url})" if url else f"`kd report {run_id[:8]} --open`"
