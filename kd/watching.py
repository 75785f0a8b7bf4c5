"""Functions for `kd watch` that show the progress of a run in another process.

The run is a comparison of students, or a generation, i.e. the training of a generator. The functions only read the
tracking store.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from flows.services.prefect_client import persistent_client
from flows.services.starting_runs import starting_runs
from kd.progress import (
    ACTIVE,
    POLL_SECONDS,
    REUSED,
    WAITING,
    Line,
    duration,
    fitting,
    lines,
    plain_lines,
    print_warnings,
    progress_table,
)
from kdmodels.errors import UnavailableError, UserError
from kdmodels.run_status import RunStatus
from kdmodels.text import escaped
from tasks import tracking
from tasks.references import GeneratorPlan, Plan
from tasks.results import ROWS, VERDICT, read_plan


@dataclass(frozen=True)
class Progress:
    """The progress of a comparison or generation.

    Attributes:
        name: Name of the run.
        stage: The stage of the flow `distill` or `generate`, e.g. "students".
        seconds: Seconds since the start of the run.
        lines: One line for each network.
    """

    name: str
    stage: str
    seconds: float
    lines: Sequence[Line]


def running_whole_run(console: Console) -> tracking.Run:
    """Return the latest comparison or generation that is running.

    A comparison or generation has no MLflow run while it prepares its data. If a permanent Prefect server knows of such
    a flow run, print its name and wait until its MLflow run begins.

    Raises:
        UserError: No comparison or generation is running or preparing its data.
    """
    if run := _latest_running():
        return run
    with persistent_client() as client:
        shown = ""
        while client and (names := starting_runs(client)):
            if names[0] != shown:
                shown = names[0]
                console.print(f"{escaped(shown)}: prepares its data; waiting for the first record", soft_wrap=True)
            time.sleep(POLL_SECONDS)
            if run := _latest_running():
                return run
    raise UserError("no comparison and no generation is running; `kd list` shows earlier runs")


def _latest_running() -> tracking.Run | None:
    running = (run for run in tracking.running() if run.kind in tracking.PARENTS and not tracking.is_dead(run.tags))
    return next(running, None)


def follow(console: Console, whole: tracking.Run) -> tracking.Run:
    """Show the progress of a comparison or generation until it ends, and return its run.

    Raises:
        UnavailableError: The process of the run no longer exists.
    """
    plan = _plan(whole)
    if plan is None:
        return tracking.get(whole.run_id)
    warned = set[str]()
    with _live(console) if console.is_terminal else contextlib.nullcontext(_plain(console)) as show:
        while (run := _current(whole.run_id)).status == RunStatus.RUNNING:
            progress = _progress(run, plan)
            show(progress)
            print_warnings(console, progress.lines, warned)
            time.sleep(POLL_SECONDS)
        show(_progress(run, plan))
    return run


def stage(current: Sequence[Line], *, has_leaderboard: bool, has_verdict: bool) -> str:
    """Return the name of a running comparison's stage, e.g. "students". The flow `distill` uses the same names.

    Args:
        current: The lines of the comparison's teachers and students.
        has_leaderboard: Whether the comparison has recorded its leaderboard.
        has_verdict: Whether the comparison has recorded the verdict of the promotion gate.
    """
    if has_leaderboard:
        return "report" if has_verdict else "promote"
    active = {line.kind for line in current if line.status in ACTIVE}
    waiting = [line.kind for line in current if line.status == WAITING]
    if active:
        return "teacher" if "teacher" in active else "students"
    if not waiting:
        return "compare"
    if waiting[0] == "teacher":
        return "teacher"
    begun = [line for line in current if line.kind == "student" and line.status not in (WAITING, REUSED)]
    return "students" if begun else "knowledge"


def generation_stage(current: Sequence[Line]) -> str:
    """Return the name of a running generation's stage, e.g. "judge". The flow `generate` uses the same names.

    Args:
        current: The lines of the judge and the generator.
    """
    judge, generator = current
    if judge.status in (WAITING, *ACTIVE):
        return "judge"
    return "generator" if generator.status in (WAITING, *ACTIVE) else "promote"


def _plan(whole: tracking.Run) -> Plan | GeneratorPlan | None:
    """Wait until the plan of a run is recorded, and return the plan. If the run ends without a plan, return None.

    Raises:
        UnavailableError: The process of the run no longer exists.
    """
    while (plan := read_plan(whole)) is None:
        if _current(whole.run_id).status != RunStatus.RUNNING:
            return None
        time.sleep(POLL_SECONDS)
    return plan


def _current(run_id: str) -> tracking.Run:
    run = tracking.get(run_id)
    if run.status == RunStatus.RUNNING and tracking.is_dead(run.tags):
        raise UnavailableError(
            f"run {run.name} ({run_id}) was killed: its process no longer exists. The same command continues the run"
        )
    return run


def _progress(run: tracking.Run, plan: Plan | GeneratorPlan) -> Progress:
    now = time.time()
    current = lines(plan, tracking.children(run.run_id), now=now)
    return Progress(
        name=run.name,
        stage=_comparison_stage(run, current) if isinstance(plan, Plan) else generation_stage(current),
        seconds=max(0.0, (run.end / 1000 if run.end else now) - run.start / 1000),
        lines=current,
    )


def _comparison_stage(run: tracking.Run, current: Sequence[Line]) -> str:
    unfinished = [line for line in current if line.status in (WAITING, *ACTIVE)]
    recorded = {} if unfinished else {name: tracking.has_artifact(run.run_id, name) for name in (ROWS, VERDICT)}
    return stage(current, has_leaderboard=recorded.get(ROWS, False), has_verdict=recorded.get(VERDICT, False))


@contextlib.contextmanager
def _live(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows the progress on a terminal. Each call replaces the output of the previous call."""
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(progress: Progress) -> None:
            heading = Text(f"{escaped(progress.name)}: {progress.stage}, {duration(progress.seconds)}", style="bold")
            table = progress_table(fitting(progress.lines, console.height - 1))
            live.update(Group(heading, table), refresh=True)

        yield show


def _plain(console: Console) -> Callable[[Progress], None]:
    """Return a function that prints a line for each new stage, and for each line with a new status."""
    show_lines, printed = plain_lines(console), [""]

    def show(progress: Progress) -> None:
        if progress.stage != printed[-1]:
            printed.append(progress.stage)
            console.print(f"{progress.name}: {progress.stage}, {duration(progress.seconds)}", soft_wrap=True)
        show_lines(progress.lines)

    return show
