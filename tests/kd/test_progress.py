"""Progress: the lines that follow from a plan and the runs in the ledger, and how they are printed."""

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from kd import progress
from tasks import tracking
from tasks.references import Plan, PlannedRun, Views


def step(name: str, action: str, kind: str = "student", epochs: int = 10) -> PlannedRun:
    fields: dict[str, Any] = {"name": name, "kind": kind, "action": action}
    return PlannedRun(**fields, reason="", key="", replicas="", params={"epochs": epochs}, seeds=[0])


PLAN = Plan(
    teacher=step("teacher", "reuse", "teacher", epochs=4),
    knowledge=Views(count=1, reason=""),
    students=[step("hard-labels", "train"), step("kd", "extend"), step("hint", "train")],
)


def run(
    name: str, status: str, *, end: int | None = None, error: str = "", warning: str = "", **metrics: float
) -> tracking.Run:
    return tracking.Run(
        run_id=name,
        name=name,
        experiment="small",
        kind="student",
        status=status,
        created=1_000_000,
        start=1_000_000,
        end=end,
        key=None,
        parent="p",
        tags={"kd.error": error, "kd.warning": warning},
        params={},
        metrics={name.replace("_", "/"): value for name, value in metrics.items()},
    )


def test_a_line_holds_the_epoch_and_the_remaining_time() -> None:
    runs = [
        run("hard-labels", "RUNNING", epoch=4.0, val_accuracy=0.9),
        run("kd", "FAILED", end=1_003_000, error="it diverged"),
    ]
    teacher, training, failed, waiting = progress.lines(PLAN, runs, now=1008.0)
    assert (teacher.status, teacher.epochs) == ("reused", 4)
    assert (training.status, training.epoch, training.epochs, training.accuracy) == ("training", 4, 10, 0.9)
    assert training.seconds_left == 12.0  # 8 s for 4 epochs, 6 to go
    assert (failed.status, failed.seconds, failed.error) == ("failed", 3.0, "it diverged")
    assert (waiting.name, waiting.status, waiting.seconds_left) == ("hint", "waiting", None)


def test_a_student_is_tuning_while_its_search_runs() -> None:
    search = PlannedRun(**step("kd tuning", "train").model_dump() | {"kind": "tuning", "params": {"tune.epochs": 4}})
    plan = PLAN.model_copy(update={"students": [step("kd", "train").model_copy(update={"tuning": search})]})
    running = replace(run("kd tuning", "RUNNING", epoch=1.0), kind="tuning")
    _, tuning = progress.lines(plan, [running], now=1002.0)
    assert (tuning.name, tuning.status, tuning.epoch, tuning.epochs, tuning.seconds_left) == ("kd", "tuning", 1, 4, 6.0)
    _, training = progress.lines(plan, [replace(running, end=1_003_000), run("kd", "RUNNING")], now=1004.0)
    assert (training.name, training.status, training.epochs) == ("kd", "training", 10)


def test_a_plain_line_is_printed_once_per_change() -> None:
    written = io.StringIO()
    show = progress.plain_lines(Console(file=written, markup=False))
    for runs in ([], [run("kd", "RUNNING")], [run("kd", "RUNNING", epoch=3.0)], [run("kd", "FAILED", end=1_002_000)]):
        show(progress.lines(PLAN, runs, now=1001.0))
    assert written.getvalue().splitlines() == ["teacher: reused", "kd: training, 10 epochs", "kd: failed: "]


def test_a_terminal_shows_one_line_per_run_and_is_left_clean() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None)
    with progress.live_table(console) as show:
        show(progress.lines(PLAN, [run("kd", "RUNNING", epoch=5.0, val_accuracy=0.75)], now=1005.0))
    text = written.getvalue()
    for name in ("teacher", "hard-labels", "kd", "hint"):
        assert name in text
    assert "5/10" in text
    assert "75.00 %" in text
    assert "5 s left" in text
    assert text.endswith("\x1b[1A\x1b[2K")  # the last line is erased


def test_an_error_of_the_display_is_printed_and_does_not_reach_the_run(monkeypatch: Any) -> None:
    def unreachable(_: str) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(progress.tracking, "find_by_flow_run", unreachable)
    written = io.StringIO()
    with progress.shown(Console(file=written, markup=False)) as on_running:
        on_running(None, type("FlowRun", (), {"id": "some-id"}), None)
    assert written.getvalue() == "no more progress is shown: ConnectionError: no answer\n"


def test_each_warning_of_a_run_is_printed_once() -> None:
    written = io.StringIO()
    console, warned = Console(file=written, markup=False), set[str]()
    for warning in ("", "it is damaged", "it is damaged", "it is full"):
        runs = [run("kd", "RUNNING", warning=warning)]
        progress.print_warnings(console, progress.lines(PLAN, runs, now=1001.0), warned)
    assert written.getvalue().splitlines() == ["kd: warning: it is damaged", "kd: warning: it is full"]
