"""Functions that start the MLflow runs of reproductions, store their results, and read the latest results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from kdmodels.errors import UserError
from kdmodels.files.atomic import write_output
from kdmodels.papers.claims import ReproductionResult, Table
from tasks import tracking
from tasks.results import ALL
from tasks.tracking.tags import Tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "reproduction"
RESULT = "result.json"  # artifact of a reproduction
QUICK = "quick"  # param of a reproduction: whether it was started with --quick


@contextmanager
def reproduction_run(name: str, seeds: int, *, quick: bool) -> Iterator[str]:
    """Start the run of a reproduction, provide its id, and end the run when the `with` block ends."""
    params = {"seeds": seeds, QUICK: quick}
    run_id = tracking.start(name, f"reproduce {name}", KIND, params=params, tags={Tag.REPRODUCTION: name})
    with tracking.recording(run_id):
        yield run_id


def record(run_id: str, result: ReproductionResult, folder: str | None) -> None:
    """Store the latest result of a reproduction with its run, and log the mean value of each claim.

    This function is called after each seed. Each result replaces the result that was stored after the previous seed.

    Args:
        folder: The folder to which the result is also written, as NAME.json. If `None`, no file is written.

    Raises:
        UserError: The file can't be written.
    """
    if folder:
        _write(result, Path(folder))
    tracking.log_json(run_id, RESULT, result.model_dump(mode="json"))
    tracking.set_tags(run_id, {Tag.NOTE: f"{result.summary}; {result.seeds} of {result.planned_seeds} seeds"})
    means = [(f"claim/{each.claim.name}", each.mean) for each in result.outcomes if each.mean is not None]
    tracking.log_metrics(run_id, [(_metric(name), mean, result.seeds) for name, mean in means])
    for number, table in enumerate(result.tables, 1):
        tracking.log_figure(run_id, f"table-{number}.png", _plot(table))


def _write(result: ReproductionResult, folder: Path) -> None:
    file = folder / f"{result.name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_output(file, result.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--output: {file}: {error.strerror or error}. Allowed: a writable folder") from error


def latest_results() -> dict[str, ReproductionResult]:
    """Return the latest result of each reproduction, by its name. Results of quick runs are left out."""
    tracking.configure()
    latest: dict[str, ReproductionResult] = {}
    for run in tracking.runs(kind=KIND, limit=ALL):
        name = run.tags[Tag.REPRODUCTION]
        if name not in latest and run.params[QUICK] == "False" and tracking.has_artifact(run.run_id, RESULT):
            latest[name] = ReproductionResult.model_validate(tracking.read_json(run.run_id, RESULT))
    return latest


def _metric(name: str) -> str:
    """Return a name that MLflow allows for a metric."""
    return "".join(sign if sign.isalnum() or sign in "/_-. " else "_" for sign in name)


def _plot(table: Table) -> "Figure":
    """Return a plot of a table: the value of each seed as a point, and the means as a line."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes 0.5 s, and commands that only list do not need it

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    names, rows = list(table.rows), list(table.rows.values())
    axes.plot(names, [fmean(values) for values in rows])
    for name, values in table.rows.items():
        axes.plot([name] * len(values), values, "k.", markersize=4)
    axes.set_title(table.title, fontsize="medium")
    axes.set_ylabel(table.unit)
    return figure
