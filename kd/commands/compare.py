"""The command `kd compare`. It compares students, or puts two comparisons or two registered models side by side."""

from typing import Annotated

import typer

from kd import console
from kd.exit_codes import usage_errors
from kd.leaderboard import print_leaderboard
from kd.options import Details, Json
from kd.side_by_side import print_side_by_side
from kdmodels.errors import UsageError
from kdmodels.evaluation.significance import evidence
from kdmodels.report.leaderboard import is_efficient, leaderboard
from kdmodels.report.tables import to_frame, to_markdown
from kdmodels.text import escaped
from tasks import queries, tracking
from tasks.side_by_side import side_by_side


def command(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs to compare. Default: the last comparison.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    details: Details = False,
    as_json: Json = False,
) -> None:
    """Compare students of the last comparison, or of given runs.

    Two comparisons (e.g. two experiments), or two registered models (e.g. digits-student@champion
    digits-student@previous), are shown side by side.
    """
    if csv + markdown + as_json > 1:
        raise UsageError("--csv, --markdown, --json: expected at most one of these options")
    tracking.configure()
    if runs and len(runs) == 2 and not (csv or markdown or details):
        with usage_errors():
            pair = side_by_side(*runs)
        if pair is not None:
            console.print_json(pair) if as_json else print_side_by_side(pair)
            return
    with usage_errors():
        students, correctness = queries.compare(runs or [])
    if as_json:
        rows = [
            student.model_dump(mode="json")
            | line.model_dump(by_alias=True)
            | {"pareto": is_efficient(student, students)}
            for student, line in zip(students, evidence(students, correctness), strict=True)
        ]
        console.print_json(rows)
    elif csv:
        print(to_frame(leaderboard(students, correctness)).to_csv(index=False), end="")
    elif markdown:
        print(escaped(to_markdown(leaderboard(students, correctness)), keep="\n"))
    else:
        print_leaderboard(students, correctness, details=details)
