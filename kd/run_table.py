"""A function that prints a table of runs, for `kd list` and `kd show`."""

from collections.abc import Sequence

from kd.console import local_time, print_table
from kdmodels.report import formats
from tasks.listings import RunLine

COLUMNS = ("run_id", "name", "kind", "experiment", "status", "started", "seconds", "validation %")
OPTIONAL = ("seconds", "experiment", "kind", "started")  # left out in this order if the terminal is narrow


def print_runs(runs: Sequence[RunLine], sort: str = "started") -> None:
    """Print one row per run. If the terminal is narrow, some columns are left out.

    Args:
        sort: Field by which the runs are sorted. Its column is never left out.
    """
    optional = [name for name in OPTIONAL if name != sort]
    print_table([_row(run) for run in runs], {name: name for name in COLUMNS}, optional)


def _row(run: RunLine) -> dict[str, object]:
    return {
        "run_id": run.run_id[:8],
        "name": run.name,
        "kind": run.kind,
        "experiment": run.experiment,
        "status": run.status.lower(),
        "started": local_time(run.started),
        "seconds": formats.amount(run.seconds),
        "validation %": formats.accuracy(run.accuracy),
    }
