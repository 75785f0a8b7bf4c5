"""The leaderboard: variants ranked by validation accuracy, with their spread over seeds.

It imports pandas, which is slow.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kdmodels.statistics import mean_and_std, t_interval

ACCURACY = "val/accuracy"
FINISHED = "FINISHED"
FIGURES = [ACCURACY, "±", "95% low", "95% high", "vs control", "vs control low", "vs control high"]
COLUMNS = ["rank", "variant", *FIGURES, "parameters", "status", "reused", "run_id"]

Row = dict[str, Any]


def winner(rows: Sequence[Row]) -> Row | None:
    """The finished row of the highest mean validation accuracy; None where no row has finished.

    Ties go to fewer parameters, then to the control, then to the first in the file: what is simpler is to be beaten.

    >>> row = {"variant": "kd", "control": "hard-labels", "status": "FINISHED", "parameters": 10}
    >>> row["metrics"] = {"val/accuracy": 0.9}
    >>> winner([row, row | {"variant": "hint", "status": "FAILED"}])["variant"]
    'kd'
    """
    finished = _ranked(rows)
    return finished[0] if finished else None


def leaderboard(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a table of COLUMNS, the winner first, those that did not finish last and without figures.

    `±` is the standard deviation over seeds, `95% low` and `95% high` Student's interval of their mean. `vs control` is
    the difference of a variant's mean from that of its control, the same student on labels alone; its interval is
    paired by seed, as equal seeds share what chance decides, and is missing where the two rows' seeds differ. Intervals
    are missing for one seed.

    Args:
        rows: one a variant, in the order of the file, with variant, control (its control's variant), run_id, status
            (MLflow's, "FINISHED" where it did), reused, parameters (a number, or None where it failed before it was
            counted); and where it finished seeds, per_seed["val/accuracy"] (one value a seed) and
            metrics["val/accuracy"] (their mean).
    """
    ranked = _ranked(rows)
    by_name = {row["variant"]: row for row in ranked}
    lines = [
        {"rank": rank, **_identity(row), **_figures(row), **_against(row, by_name.get(row["control"]))}
        for rank, row in enumerate(ranked, 1)
    ]
    lines += [_identity(row) for row in rows if row["status"] != FINISHED]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    return frame.astype({"rank": "Int64", "parameters": "Int64"} | dict.fromkeys(FIGURES, "float64"))


def to_markdown(frame: pd.DataFrame) -> str:
    """The table in GitHub's Markdown, four decimals, missing values empty (pandas' own needs another package).

    >>> print(to_markdown(pd.DataFrame({"variant": ["kd"], "val/accuracy": [0.97], "±": [None]})))
    | variant | val/accuracy | ± |
    | --- | --- | --- |
    | kd | 0.9700 |  |
    """
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _ranked(rows: Sequence[Row]) -> list[Row]:
    def place(row: Row) -> tuple[float, int, bool]:
        # Rounded, since the mean of equal figures depends in its last bit on their order.
        return -round(row["metrics"][ACCURACY], 12), row["parameters"], row["variant"] != row["control"]

    return sorted((row for row in rows if row["status"] == FINISHED), key=place)


def _identity(row: Row) -> Row:
    return {name: row[name] for name in ("variant", "parameters", "status", "reused", "run_id")}


def _figures(row: Row) -> Row:
    accuracies = row["per_seed"][ACCURACY]
    low, high = t_interval(accuracies) or (None, None)
    if low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)  # an accuracy is a share, whatever Student's distribution allows
    return {ACCURACY: row["metrics"][ACCURACY], "±": mean_and_std(accuracies)[1], "95% low": low, "95% high": high}


def _against(row: Row, control: Row | None) -> Row:
    if control is None or row is control:
        return {}
    line: Row = {"vs control": row["metrics"][ACCURACY] - control["metrics"][ACCURACY]}
    own, theirs = (dict(zip(each["seeds"], each["per_seed"][ACCURACY], strict=True)) for each in (row, control))
    if own.keys() == theirs.keys():
        low, high = t_interval([own[seed] - theirs[seed] for seed in own]) or (None, None)
        line |= {"vs control low": low, "vs control high": high}
    return line


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
