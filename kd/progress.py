"""Functions that show the progress of a run. They read the progress from the tracking store once a second.

A terminal shows one line for the teacher and one line for each student. If the output is not a terminal, a line is
printed whenever a run starts or ends.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from prefect.client.schemas.objects import FlowRun
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from kdmodels.report.formats import percent
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.references import GeneratorPlan, Plan, PlannedRun
from tasks.results import read_plan
from tasks.tracking.tags import Tag

POLL_SECONDS = 1.0
WAITING, TRAINING, REUSED, FAILED, FINISHED = "waiting", "training", "reused", "failed", "finished"
TUNING = "tuning"
ACTIVE = (TRAINING, TUNING)
ENDED = {RunStatus.FINISHED: FINISHED, RunStatus.FAILED: FAILED, RunStatus.KILLED: "stopped"}


@dataclass(frozen=True)
class Line:
    """The progress of one network: a teacher, a student or a generator.

    Attributes:
        accuracy: Validation accuracy after the last validated epoch, from 0 to 1. A generator has no accuracy.
        seconds: Seconds since the start of the run. If the run has ended, the seconds from its start to its end.
        resumed: Number of epochs that had ended before the last interruption. Without an interruption, the number is 0.
    """

    kind: str
    name: str
    status: str
    epochs: int
    epoch: int = 0
    accuracy: float | None = None
    seconds: float = 0.0
    error: str = ""
    warning: str = ""
    note: str = ""
    resumed: int = 0

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds for the remaining epochs.

        The estimate uses the mean time of the epochs since the run was last started or resumed. If no epoch has ended
        since then, the value is None.
        """
        done = self.epoch - self.resumed
        return self.seconds / done * (self.epochs - self.epoch) if done else None


@contextlib.contextmanager
def shown(console: Console) -> Iterator[Callable[..., None]]:
    """Show the progress of a flow run while the `with` block runs.

    Yields:
        A function to use as the flow's `on_running` hook. The function passes the id of the flow run to the display.
    """
    flow_runs: list[str] = []
    stop = threading.Event()

    def on_running(flow: object, flow_run: FlowRun, state: object) -> None:
        flow_runs.append(str(flow_run.id))

    def watch() -> None:
        try:
            _watch(console, flow_runs, stop)
        except Exception as error:  # the run continues without the display
            reason = tracking.outage(error) or f"{type(error).__name__}: {error}"
            console.print(f"no more progress is shown: {reason}", soft_wrap=True)

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield on_running
    finally:
        stop.set()
        thread.join()


def _watch(console: Console, flow_runs: Sequence[str], stop: threading.Event) -> None:
    """Wait until the flow run has an MLflow run with a plan, then show the progress until `stop` is set."""
    begun: tuple[str, Plan | GeneratorPlan] | None = None
    stopped, warned = False, set[str]()
    while not stopped and not begun:
        stopped = stop.wait(POLL_SECONDS)
        begun = _begun(flow_runs[0]) if flow_runs else None
    if not begun:
        return
    parent, plan = begun
    for note in plan.notes:
        console.print(f"data: {note}", soft_wrap=True)
    for warning in plan.warnings if isinstance(plan, Plan) else []:
        console.print(f"warning: {warning}", soft_wrap=True)
    # The live display starts only now, because the preparation of data may have shown its own progress.
    with live_table(console) if console.is_terminal else contextlib.nullcontext(plain_lines(console)) as show:
        while True:
            current = lines(plan, tracking.children(parent), now=time.time())
            show(current)
            print_warnings(console, current, warned)
            if stopped:
                return
            stopped = stop.wait(POLL_SECONDS)


def _begun(flow_run: str) -> tuple[str, Plan | GeneratorPlan] | None:
    """Return the MLflow run id and the plan of the comparison or generation that a Prefect flow run started.

    The MLflow run is the parent of the runs of all networks. If it has not been started yet, return None.
    """
    parent = tracking.find_by_flow_run(flow_run)
    plan = read_plan(parent) if parent else None
    return (parent.run_id, plan) if parent and plan else None


def lines(plan: Plan | GeneratorPlan, runs: Sequence[tracking.Run], *, now: float) -> list[Line]:
    """Return a line for each network, in the order of the experiment file.

    Args:
        runs: The runs that the comparison has started.
        now: Current time, in seconds since 1970.
    """
    started = {(run.kind, run.name): run for run in runs}
    return [_current_line(step, started, now) for step in plan.steps]


def _current_line(step: PlannedRun, started: Mapping[tuple[str | None, str], tracking.Run], now: float) -> Line:
    """Return the line of a run. While a search for its hyperparameters is running, return the line of the search."""
    run, tuning = started.get((step.kind, step.name)), step.tuning
    search = started.get((tuning.kind, tuning.name)) if tuning and not run else None
    if tuning and search and search.end is None:
        line = replace(_line(tuning, search, now), kind=step.kind, name=step.name, status=TUNING)
        epochs = tuning.params.get("tune.epochs")
        return replace(line, epochs=epochs) if isinstance(epochs, int) else line
    return _line(step, run, now)


def _line(step: PlannedRun, run: tracking.Run | None, now: float) -> Line:
    status = REUSED if step.action == "reuse" else WAITING
    notes = "; ".join(filter(None, (step.reason if step.action == "resume" else "", step.note)))
    epochs = step.params.get("generator.epochs", step.params.get("epochs"))
    line = Line(step.kind, step.name, status, epochs=epochs if isinstance(epochs, int) else 0, note=notes)
    if run is None:
        return line
    return replace(
        line,
        status=ENDED.get(run.status, TRAINING),
        epoch=int(run.metrics.get("epoch", 0)),
        accuracy=run.metrics.get("val/accuracy"),
        seconds=max(0.0, (run.end / 1000 if run.end else now) - run.start / 1000),
        error=run.tags.get(Tag.ERROR, ""),
        warning=run.tags.get(Tag.WARNING, ""),
        resumed=int(run.tags.get(Tag.RESUMED_EPOCH, 0)),
    )


def print_warnings(console: Console, lines: Sequence[Line], printed: set[str]) -> None:
    """Print each warning that is not in `printed`, and add the warning to `printed`.

    A warning reports a problem that did not stop the run, e.g. a damaged checkpoint.
    """
    for line in lines:
        text = f"{line.name}: warning: {line.warning}"
        if line.warning and text not in printed:
            printed.add(text)
            console.print(text, soft_wrap=True)


@contextlib.contextmanager
def live_table(console: Console) -> Iterator[Callable[[Sequence[Line]], None]]:
    """Yield a function that shows lines on a terminal. Each call replaces the lines of the previous call."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda lines: live.update(progress_table(fitting(lines, console.height)), refresh=True)


def fitting(lines: Sequence[Line], height: int) -> Sequence[Line]:
    """Return all lines if they fit on the terminal. Otherwise, return only the lines of runs that are training."""
    return lines if len(lines) < height else [line for line in lines if line.status in ACTIVE]


def progress_table(lines: Sequence[Line]) -> Table:
    """Return the lines as a table with progress bars."""
    table = Table.grid(padding=(0, 2))
    for line in lines:
        left = line.seconds_left if line.status in ACTIVE else None
        epochs = f"{line.epoch}/{line.epochs}" if line.epoch else ""
        bar = ProgressBar(total=line.epochs or 1, completed=line.epoch, width=20) if line.epoch else ""
        remaining = "" if left is None else f"{duration(left)} left"
        table.add_row(line.name, _status(line), bar, epochs, percent(line.accuracy), remaining)
    return table


def _status(line: Line) -> str:
    """Return the status to print. A teacher that is loaded and not trained has its own words."""
    is_loaded = line.kind == "teacher" and not line.epochs
    return {TRAINING: "loading", FINISHED: "loaded"}.get(line.status, line.status) if is_loaded else line.status


def plain_lines(console: Console) -> Callable[[Sequence[Line]], None]:
    """Return a function that prints a sentence for each line that has a new status."""
    printed: dict[tuple[str, str], str] = {}

    def show(lines: Sequence[Line]) -> None:
        for line in lines:
            if line.status not in (WAITING, printed.get((line.kind, line.name))):
                printed[line.kind, line.name] = line.status
                console.print(sentence(line), soft_wrap=True)

    return show


def sentence(line: Line) -> str:
    """Return the sentence that reports a line's new status.

    >>> sentence(Line("student", "kd", "finished", epochs=30, epoch=30, accuracy=0.9722, seconds=4.2))
    'kd: finished in 4 s, validation accuracy 97.22 %'
    >>> sentence(Line("teacher", "teacher", "training", epochs=40))
    'teacher: training, 40 epochs'
    >>> sentence(Line("teacher", "teacher", "finished", epochs=0, accuracy=0.97, seconds=1.2))
    'teacher: loaded in 1 s, validation accuracy 97.00 %'
    """
    if line.status == TRAINING:
        action = f"training, {line.epochs} epochs" if line.epochs else _status(line)
        return "; ".join(filter(None, (f"{line.name}: {action}", line.note)))
    if line.status == FAILED:
        return f"{line.name}: failed: {line.error}"
    if line.status == FINISHED:
        accuracy = "" if line.accuracy is None else f", validation accuracy {percent(line.accuracy)}"
        return f"{line.name}: {_status(line)} in {duration(line.seconds)}{accuracy}"
    return f"{line.name}: {line.status}"


def duration(seconds: float) -> str:
    """Format a duration in seconds or minutes.

    >>> duration(4.2), duration(150)
    ('4 s', '2 min')
    """
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
