"""Conversion of the leaderboard to a data frame or a Markdown table."""

from collections.abc import Sequence

import pandas as pd

from kdmodels.evaluation.ranking import ACCURACY
from kdmodels.report.leaderboard import LeaderboardRow, metric_names

INTEGERS = ["rank", "group", "parameters"]
FIGURES = [
    ACCURACY,
    "±",
    "95% low",
    "95% high",
    "examples low",
    "examples high",
    "vs control",
    "vs control low",
    "vs control high",
    "vs control p",
    "vs control holm",
    "vs best holm",
    "bootstrap low",
    "bootstrap high",
    "vs control mcnemar",
    "vs best mcnemar",
    "wins",
]
COSTS = ["file MB", "MFLOPs", "memory MB", "p50 ms"]
COLUMNS = ["rank", "variant", *FIGURES, "group", "parameters", *COSTS, "pareto", "status", "reused", "run_id"]


def to_frame(rows: Sequence[LeaderboardRow]) -> pd.DataFrame:
    """Return the rows as a data frame with the columns `COLUMNS`, and one column for each metric that was measured.

    A missing value is NaN or NA.
    """
    metrics = metric_names(rows)
    frame = pd.DataFrame([record(row) | _metrics(row, metrics) for row in rows], columns=[*COLUMNS, *metrics])
    floats = dict.fromkeys([*FIGURES, *COSTS, *metrics], "float64")
    return frame.astype(dict.fromkeys(INTEGERS, "Int64") | floats | {"pareto": "boolean"})


def to_markdown(rows: Sequence[LeaderboardRow]) -> str:
    """Return the rows as a table in GitHub's Markdown, with 4 decimals. Missing values are empty cells."""
    metrics = metric_names(rows)
    cells = [[_cell(value) for value in (record(row) | _metrics(row, metrics)).values()] for row in rows]
    columns = [*COLUMNS, *metrics]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def record(row: LeaderboardRow) -> dict[str, str | float | bool | None]:
    """Return the values of one row, by the title of the column."""
    student, costs = row.student, row.costs
    return {
        "rank": row.rank,
        "variant": student.variant,
        ACCURACY: row.accuracy,
        "±": row.std,
        "95% low": row.low,
        "95% high": row.high,
        **row.evidence.model_dump(by_alias=True),
        "parameters": costs.parameters,
        "file MB": costs.file_mb,
        "MFLOPs": costs.mflops,
        "memory MB": costs.memory_mb,
        "p50 ms": costs.p50_ms,
        "pareto": row.efficient,
        "status": student.status,
        "reused": student.reused,
        "run_id": student.run_id,
    }


def _metrics(row: LeaderboardRow, names: Sequence[str]) -> dict[str, str | float | bool | None]:
    """Return the mean over the seeds of each metric, by name. A metric that was not measured is `None`."""
    return {name: row.student.score(name) if name in row.student.scores else None for name in names}


def _cell(value: str | float | bool | None) -> str:
    """Return a value as the text of a Markdown cell.

    >>> _cell(0.97), _cell(12), _cell("a|b"), _cell(None)
    ('0.9700', '12', 'a\\\\|b', '')
    """
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
