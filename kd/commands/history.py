"""The command `kd history`. It shows the history of a registered model."""

from pathlib import Path
from typing import Annotated

import typer

from kd import console
from kd.exit_codes import usage_errors
from kd.options import Json
from kdmodels.errors import UsageError, UserError
from kdmodels.files.atomic import SHARED, write_whole
from kdmodels.report.formats import percent
from kdmodels.report.history import Decision, history_chart
from kdmodels.report.vega import to_file
from tasks.model_history import DecisionLine, History, read_history

TITLES = ("started", "comparison", "student", "validation", "test", "decision", "champion")


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a registered model.")],
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw test accuracy over time: an .svg or .png file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a model's versions, decisions and looks at the test split."""
    if figure is not None and figure.suffix not in (".svg", ".png"):
        raise UsageError(f"--figure: {figure}: expected a file that ends with .svg or .png")
    with usage_errors():
        history = read_history(model)
    if as_json:
        console.print_json(history)
    else:
        _print(history)
    if figure is not None:
        _draw(history, figure)


def _print(history: History) -> None:
    rows = [_row(line) for line in history.decisions]
    console.print_table(rows, {name: name for name in TITLES}, optional=("validation", "comparison"))
    for version in history.versions:
        words = [*version.aliases, f"run {version.run_id[:8]}" if version.run_id else "not made by kdflow"]
        since = f", promoted by the comparison of {console.local_time(version.promoted)}" if version.promoted else ""
        console.print_entry("version", f"{version.version}: {', '.join(words)}{since}")
    for looks in history.looks:
        console.print_entry("looks", f"{looks.looks} of {looks.of} at the test split {looks.test_split}")


def _row(line: DecisionLine) -> dict[str, object]:
    return {
        "started": console.local_time(line.started),
        "comparison": line.comparison[:8],
        "student": line.winner,
        "validation": percent(line.validation_accuracy),
        "test": percent(line.test_accuracy),
        "decision": line.decision,
        "champion": line.champion,
    }


def _draw(history: History, file: Path) -> None:
    decisions = [
        Decision(line.started, line.winner, line.decision, line.test_accuracy)
        for line in history.decisions
        if line.test_accuracy is not None
    ]
    if not decisions:
        raise UserError(f"--figure: no decision about {history.model} has a test accuracy")
    content = to_file(history_chart(history.model, decisions), "svg" if file.suffix == ".svg" else "png")
    try:
        write_whole(file, lambda partial: partial.write_bytes(content), mode=SHARED)
    except OSError as error:
        raise UserError(f"--figure: {file}: {error.strerror}") from error
