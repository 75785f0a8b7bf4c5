"""Live progress of a run, read from the ledger about once a second: the same for every runner, and no task knows of it.

On a terminal one line for the teacher and each student; elsewhere a plain line where one starts and where it ends.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from tasks import tracking
from tasks.references import Plan, Step
from tasks.results import PLAN

POLL_SECONDS = 1.0
WAITING, TRAINING, REUSED = "waiting", "training", "reused"
ENDED = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped"}


@dataclass(frozen=True)
class Line:
    """What is known of the teacher or one student; `seconds` since its run began, until it ended.

    One that goes on after an interruption begins again after epoch `resumed`.
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
    def left(self) -> float | None:
        """Seconds that the remaining epochs take when they take as long as those before."""
        done = self.epoch - self.resumed
        return self.seconds / done * (self.epochs - self.epoch) if done else None


@contextlib.contextmanager
def shown(console: Console) -> Iterator[Callable[..., None]]:
    """While the block runs, show the flow run that gets the yielded function as its `on_running` hook."""
    flow_runs: list[str] = []
    stop = threading.Event()

    def on_running(flow: Any, flow_run: Any, state: Any) -> None:
        flow_runs.append(str(flow_run.id))

    def watch() -> None:
        comparison: tuple[str, Plan] | None = None
        stopped, warned = False, set[str]()
        try:
            while not stopped and not comparison:
                stopped = stop.wait(POLL_SECONDS)
                comparison = _comparison(flow_runs[0]) if flow_runs else None
            if not comparison:
                return
            parent, plan = comparison
            for note in plan.notes:
                console.print(f"data: {note}", soft_wrap=True)
            # Not before: what prepares the data may show its own progress there.
            with _live(console) if console.is_terminal else contextlib.nullcontext(_plain(console)) as show:
                while True:
                    current = lines(plan, tracking.children(parent), now=time.time())
                    show(current)
                    _warn(console, current, warned)
                    if stopped:
                        return
                    stopped = stop.wait(POLL_SECONDS)
        except Exception as error:  # the run goes on without its display
            told = tracking.outage(error) or f"{type(error).__name__}: {error}"
            console.print(f"no more progress is shown: {told}", soft_wrap=True)

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield on_running
    finally:
        stop.set()
        thread.join()


def _comparison(flow_run: str) -> tuple[str, Plan] | None:
    """The run and the plan of the comparison that a Prefect flow run has begun; None while it has not."""
    recent = tracking.runs(kind="comparison", limit=10)
    parent = next((run.run_id for run in recent if run.tags.get("kd.prefect_flow_run") == flow_run), None)
    if parent is None or not tracking.has_artifact(parent, PLAN):
        return None
    return parent, Plan.model_validate(tracking.read_json(parent, PLAN))


def lines(plan: Plan, runs: list[tracking.Run], *, now: float) -> list[Line]:
    """The teachers' lines and the students', in the order of the file; `now` in seconds since 1970."""
    started = {(run.kind, run.name): run for run in runs}
    return [_line(step, started.get((step.kind, step.name)), now) for step in plan.steps]


def _line(step: Step, run: tracking.Run | None, now: float) -> Line:
    status = REUSED if step.action == "reuse" else WAITING
    notes = "; ".join(filter(None, (step.reason if step.action == "resume" else "", step.note)))
    line = Line(step.kind, step.name, status, epochs=step.params.get("epochs", 0), note=notes)
    if run is None:
        return line
    return replace(
        line,
        status=ENDED.get(run.status, TRAINING),
        epoch=int(run.metrics.get("epoch", 0)),
        accuracy=run.metrics.get("val/accuracy"),
        seconds=max(0.0, (run.end / 1000 if run.end else now) - run.start / 1000),
        error=run.tags.get("kd.error", ""),
        warning=run.tags.get(tracking.WARNING, ""),
        resumed=int(run.tags.get("kd.resumed_epoch", 0)),
    )


def _warn(console: Console, lines: list[Line], warned: set[str]) -> None:
    """Each warning once: of a checkpoint that is damaged or can't be written."""
    for line in lines:
        told = f"{line.name}: warning: {line.warning}"
        if line.warning and told not in warned:
            warned.add(told)
            console.print(told, soft_wrap=True)


@contextlib.contextmanager
def _live(console: Console) -> Iterator[Callable[[list[Line]], None]]:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda lines: live.update(_table(_fitting(lines, console.height)), refresh=True)


def _fitting(lines: list[Line], height: int) -> list[Line]:
    """All lines, or where a terminal has not room for so many those of what is being trained."""
    return lines if len(lines) < height else [line for line in lines if line.status == TRAINING]


def _table(lines: list[Line]) -> Table:
    table = Table.grid(padding=(0, 2))
    for line in lines:
        left = f"{_time(line.left)} left" if line.status == TRAINING and line.left is not None else ""
        epochs = f"{line.epoch}/{line.epochs}" if line.epoch else ""
        bar = ProgressBar(total=line.epochs or 1, completed=line.epoch, width=20) if line.epoch else ""
        table.add_row(line.name, line.status, bar, epochs, _percent(line.accuracy), left)
    return table


def _plain(console: Console) -> Callable[[list[Line]], None]:
    told: dict[tuple[str, str], str] = {}

    def show(lines: list[Line]) -> None:
        for line in lines:
            if line.status not in (WAITING, told.get((line.kind, line.name))):
                told[line.kind, line.name] = line.status
                console.print(sentence(line), soft_wrap=True)

    return show


def sentence(line: Line) -> str:
    """What is said of a line where its status has changed.

    >>> sentence(Line("student", "kd", "finished", epochs=30, epoch=30, accuracy=0.9722, seconds=4.2))
    'kd: finished in 4 s, validation accuracy 97.22 %'
    >>> sentence(Line("teacher", "teacher", "training", epochs=40))
    'teacher: training, 40 epochs'
    """
    if line.status == TRAINING:
        what = f"training, {line.epochs} epochs" if line.epochs else "measuring"  # or nothing is trained
        return "; ".join(filter(None, (f"{line.name}: {what}", line.note)))
    if line.status == "failed":
        return f"{line.name}: failed: {line.error}"
    if line.status == "finished":
        return f"{line.name}: finished in {_time(line.seconds)}, validation accuracy {_percent(line.accuracy)}"
    return f"{line.name}: {line.status}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
