"""The leaderboard: variants ranked by validation accuracy, with their spread over seeds, and what each costs.

It imports pandas, which is slow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdmodels.report.evidence import ACCURACY, EVIDENCE, FINISHED, UNKNOWN, Right, Row, evidence, ranked
from kdmodels.statistics import mean_and_std, t_interval

FLOPS = "cost/flops"
FIGURES = [ACCURACY, "±", "95% low", "95% high", *EVIDENCE[:-1]]
COSTS = {  # column: metric, and how many of its unit are one of the column's
    "file MB": ("size/file_mb", 1.0),
    "MFLOPs": (FLOPS, 1e6),
    "memory MB": ("cost/memory_mb", 1.0),
    "p50 ms": ("latency/p50_ms", 1.0),
}
COLUMNS = ["rank", "variant", *FIGURES, "group", "parameters", *COSTS, "pareto", "status", "reused", "run_id"]


def winner(rows: Sequence[Row]) -> Row | None:
    """The finished row of the highest mean validation accuracy; None where no row has finished.

    Ties go to fewer parameters, then to the control, then to the first in the file: what is simpler is to be beaten.

    >>> row = {"variant": "kd", "control": "hard-labels", "status": "FINISHED", "parameters": 10}
    >>> row["metrics"] = {"val/accuracy": 0.9}
    >>> winner([row, row | {"variant": "hint", "status": "FAILED"}])["variant"]
    'kd'
    """
    finished = ranked(rows)
    return finished[0] if finished else None


def leaderboard(rows: Sequence[Row], right: Mapping[str, Right] = UNKNOWN) -> pd.DataFrame:
    """The rows as a table of COLUMNS, the winner first, those that did not finish last and without figures.

    `±` is the standard deviation over seeds, `95% low` and `95% high` Student's interval of their mean, missing where
    they have no spread: for one seed, or where all agree. EVIDENCE is as `evidence` says. Costs are of the stored
    network, for one image, and are missing for runs of before they were measured. `pareto` is as `efficient` says.

    Args:
        rows: one a variant, in the order of the file, with variant, control (its control's variant), run_id, status
            (MLflow's, "FINISHED" where it did), reused, parameters (a number, or None where it failed before it was
            counted); and where it finished seeds, per_seed["val/accuracy"] (one value a seed) and
            metrics["val/accuracy"] (their mean).
        right: as of `evidence`.
    """
    order = ranked(rows)
    lines = [
        {
            "rank": rank,
            **_identity(row),
            **_figures(row),
            **line,
            **cost_columns(row["metrics"]),
            "pareto": efficient(row, order),
        }
        for rank, (row, line) in enumerate(zip(order, evidence(order, right), strict=True), 1)
    ]
    lines += [_identity(row) for row in rows if row["status"] != FINISHED]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    types = {"rank": "Int64", "parameters": "Int64", "pareto": "boolean", "group": "Int64"}
    return frame.astype(types | dict.fromkeys([*FIGURES, *COSTS], "float64"))


def cost_columns(metrics: Mapping[str, float]) -> dict[str, float]:
    """The COSTS among a run's metrics, each in its column's unit."""
    return {column: metrics[name] / unit for column, (name, unit) in COSTS.items() if name in metrics}


def efficient(row: Row, rows: Sequence[Row]) -> bool | None:
    """Whether the row is on the Pareto front: no other is as good or better in all of what counts, and better in one.

    What counts is mean validation accuracy, parameters and FLOPs; latency does not, for it never measures alike twice.
    None for a row that has not finished or whose FLOPs are not known; such rows beat none either.
    """
    goodness = _goodness(row)
    if goodness is None:
        return None
    others = filter(None, map(_goodness, rows))
    return not any(other != goodness and all(o >= g for o, g in zip(other, goodness, strict=True)) for other in others)


def _goodness(row: Row) -> tuple[float, ...] | None:
    if row["status"] != FINISHED or FLOPS not in row["metrics"]:
        return None
    return round(row["metrics"][ACCURACY], 12), -row["parameters"], -row["metrics"][FLOPS]


def to_markdown(frame: pd.DataFrame) -> str:
    """The table in GitHub's Markdown, four decimals, missing values empty (pandas' own needs another package).

    >>> print(to_markdown(pd.DataFrame({"variant": ["kd"], "val/accuracy": [0.97], "±": [None]})))
    | variant | val/accuracy | ± |
    | --- | --- | --- |
    | kd | 0.9700 |  |
    """
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _identity(row: Row) -> Row:
    return {name: row[name] for name in ("variant", "parameters", "status", "reused", "run_id")}


def _figures(row: Row) -> Row:
    accuracies = row["per_seed"][ACCURACY]
    low, high = t_interval(accuracies) or (None, None)
    if low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)  # an accuracy is a share, whatever Student's distribution allows
    return {ACCURACY: row["metrics"][ACCURACY], "±": mean_and_std(accuracies)[1], "95% low": low, "95% high": high}


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
