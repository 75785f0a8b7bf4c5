"""What the commands print: results on stdout, everything else on stderr."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.references import Outcome, Plan, VerdictReference

WIDE = 200  # characters of a line where there is no terminal to fit into


def console(*, stderr: bool = False) -> Console:
    """A console of stdout or stderr; colours only on a terminal, and never with NO_COLOR."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE, highlight=False, markup=False)


def print_json(document: Any) -> None:
    """One JSON document on stdout; what is not a finite number is null."""
    print(to_json(document, indent=2, inf_nan_mode="null").decode())


def print_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Rows as a table; `columns` maps the keys that are shown to their titles."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns.values():
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*[_cell(row.get(key)) for key in columns])
    console().print(table)


def print_plan(plan: Plan) -> None:
    """What a run would do, and why."""
    teacher, *students = [
        {"name": step.name, "action": step.action, "reason": "; ".join(filter(None, (step.reason, step.note)))}
        for step in (plan.teacher, *plan.students)
    ]
    knowledge = {"name": "knowledge", "action": plan.knowledge.action, "reason": plan.knowledge.reason}
    print_table(
        [teacher, *[knowledge] * plan.taught, *students], {"name": "name", "action": "action", "reason": "reason"}
    )


def print_leaderboard(rows: Sequence[Mapping[str, Any]]) -> None:
    """The leaderboard in percent, and why a student has no place in it."""
    from kdmodels.report.leaderboard import leaderboard  # it imports pandas

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("#", "variant", "validation", "95 % interval", "vs control", "parameters", "status"):
        table.add_column(title, justify="right" if title in ("#", "parameters") else "left", overflow="fold")
    frame = leaderboard([dict(row) for row in rows])
    for line in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        table.add_row(
            _cell(line["rank"]),
            line["variant"],
            _share(line["val/accuracy"], line["±"]),
            _interval(line["95% low"], line["95% high"]),
            _difference(line["vs control"], line["vs control low"], line["vs control high"]),
            "" if line["parameters"] is None else f"{line['parameters']:,}",
            _status(line),
        )
    console().print(table)
    for row in rows:
        if row.get("error"):
            console().print(f"{row['variant']}: {row['error']}", style="red", soft_wrap=True)


def print_outcome(outcome: Outcome) -> None:
    """The result of a run: the leaderboard, the verdict, the seconds, and where to look next."""
    out, verdict = console(), outcome.verdict
    print_leaderboard([student.model_dump(mode="json") for student in outcome.students])
    for note in outcome.notes:
        out.print(f"note        {note}", soft_wrap=True)
    out.print()
    print_verdict(verdict)
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in outcome.seconds.items() if stage != "total")
    out.print(f"seconds     {outcome.seconds['total']:.1f} ({stages})", soft_wrap=True)
    next_steps = {"kd ui": "the runs, in the browser", "kd compare": "this table again"}
    if verdict.version:
        next_steps[f"kd predict {verdict.model} IMAGE..."] = f"by models:/{verdict.model}@champion"
    width = max(map(len, next_steps))
    for number, (command, what) in enumerate(next_steps.items()):
        out.print(f"{'' if number else 'next':12}{command:{width}}  {what}", soft_wrap=True)


def print_verdict(verdict: VerdictReference) -> None:
    """What was read from the test split, and what the gate says."""
    out = console()
    read = [
        f"{name} {100 * accuracy:.2f} %{' (winner)' if name == verdict.winner else ''}"
        for name, accuracy in verdict.test_accuracy.items()
    ]
    out.print(f"test        {', '.join(read)}", soft_wrap=True)
    out.print(Text(f"verdict     {verdict.reason}", style="bold"), soft_wrap=True)
    champion = f"models:/{verdict.model}/{verdict.version}" if verdict.version else f"{verdict.model} has none"
    out.print(f"champion    {champion}", soft_wrap=True)


def print_fields(fields: Mapping[str, Any], indent: str = "") -> None:
    """Nested mappings as indented lines; what is empty is left out."""
    out = console()
    for name, value in fields.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, Mapping):
            out.print(f"{indent}{name}")
            print_fields(value, indent + "  ")
        elif isinstance(value, list) and isinstance(value[0], Mapping):
            out.print(f"{indent}{name}")
            print_table(value, {key: key for key in value[0]})
        else:
            out.print(f"{indent}{name:<{26 - len(indent)}}{_cell(value)}", soft_wrap=True)


def _status(line: Mapping[Any, Any]) -> str:
    if line["status"] != "FINISHED":
        return str(line["status"]).lower()
    return "reused" if line["reused"] else "trained"


def _share(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{100 * mean:.2f} %" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f} %"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f}"


def _difference(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None:
        return ""
    interval = "" if low is None or high is None else f" ({100 * low:+.2f} to {100 * high:+.2f})"
    return f"{100 * mean:+.2f}{interval}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)
