"""What the commands print: results on stdout, everything else on stderr."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ByteSize
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdmodels.report.evidence import RESAMPLES, UNKNOWN, Right
from kdmodels.text import escaped
from tasks.references import Outcome, Plan, VerdictReference

COSTS = {  # the leaderboard's columns, in words
    "parameters": "parameters",
    "file MB": "MB on disk",
    "MFLOPs": "MFLOPs",
    "memory MB": "MB of memory",
    "p50 ms": "ms for one image on the CPU",
}
CLASSES = 20  # rows of a table of classes
WIDE = 200  # characters of a line where there is no terminal to fit into


class _Console(Console):
    """A console that shows control characters of names from the store, and of files, instead of obeying them."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Return a text as rich does, each control character escaped; rich calls it for all it prints but a `Text`."""
        return super().render_str(escaped(text), **how)


def console(*, stderr: bool = False) -> Console:
    """Return a console of stdout or stderr; colours only on a terminal, and never with NO_COLOR."""
    stream = sys.stderr if stderr else sys.stdout
    return _Console(stderr=stderr, width=None if stream.isatty() else WIDE, highlight=False, markup=False)


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


def print_text(*lines: str) -> None:
    """Lines as they are."""
    console().print(*lines, sep="\n", soft_wrap=True)


def print_plan(plan: Plan) -> None:
    """What a run would do, and why."""
    rows = [
        {"name": step.name, "action": step.action, "reason": "; ".join(filter(None, (step.reason, step.note)))}
        for step in plan.steps
    ]
    if plan.taught:
        knowledge = {"name": "knowledge", "action": plan.knowledge.action, "reason": plan.knowledge.reason}
        rows.insert(len(plan.members) + 1, knowledge)
    print_table(rows, {"name": "name", "action": "action", "reason": "reason"})
    for note in plan.notes:
        console().print(f"data: {note}", soft_wrap=True)


def print_leaderboard(rows: Sequence[Mapping[str, Any]], right: Mapping[str, Right] = UNKNOWN) -> None:
    """The leaderboard in percent, over seeds and over examples, what students cost, and why one has no place in it."""
    from kdmodels.report.leaderboard import leaderboard  # it imports pandas

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("#", "variant", "validation", "95 % interval", "vs control", "p (Holm)", "status"):
        table.add_column(title, justify="right" if title == "#" else "left", overflow="fold")
    frame = leaderboard([dict(row) for row in rows], right)
    lines = frame.astype(object).where(frame.notna(), None).to_dict("records")
    for line in lines:
        table.add_row(
            _cell(line["rank"]),
            line["variant"],
            _share(line["val/accuracy"], line["±"]),
            _interval(line["95% low"], line["95% high"]),
            _difference(line["vs control"], line["vs control low"], line["vs control high"]),
            _p_value(line["vs control holm"]),
            _status(line),
        )
    console().print(table)
    _print_examples([line for line in lines if line["examples low"] is not None])
    _print_groups(lines, "paired t tests over seeds" + (" and McNemar's over examples" if right else ""))
    _print_costs([line for line in lines if line["status"] == "FINISHED"])
    for row in rows:
        if row.get("error"):
            console().print(f"{row['variant']}: {row['error']}", style="red", soft_wrap=True)


def _print_groups(lines: Sequence[Mapping[Any, Any]], tests: str) -> None:
    """Which variants are not told from the best of their group, where it is not alone."""
    grouped: dict[int, list[str]] = {}
    for line in lines:
        grouped.setdefault(line["group"] or 0, []).append(line["variant"])
    for number, (head, *others) in sorted(grouped.items()):
        if number and others:
            told = f"indistinguishable from {head} ({tests}, Holm, 5 %): {', '.join(others)}"
            console().print(told, soft_wrap=True)


def _print_examples(lines: Sequence[Mapping[Any, Any]]) -> None:
    """What other validation examples, and other seeds, might have shown."""
    if not lines:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("over examples", "95 % interval", "vs control", "p (McNemar, Holm)", "would win"):
        table.add_column(title, overflow="fold")
    for line in lines:
        table.add_row(
            line["variant"],
            _interval(line["examples low"], line["examples high"]),
            _difference(line["vs control"], line["bootstrap low"], line["bootstrap high"]),
            _p_value(line["vs control mcnemar"]),
            "" if line["wins"] is None else f"{100 * line['wins']:.0f} %",
        )
    out = console()
    out.print()
    out.print(table)
    out.print(f"vs control and would win: {RESAMPLES:,} resamples of seeds and examples together", soft_wrap=True)
    out.print()


def _print_costs(lines: Sequence[Mapping[Any, Any]]) -> None:
    """One line where all finished students cost the same, else a table that fits a narrow terminal."""
    out = console()
    if len({(line["parameters"], line["MFLOPs"]) for line in lines}) <= 1:
        if lines:
            out.print(f"{'each: ' if len(lines) > 1 else ''}{_costs_in_words(lines)}", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = [name for name in COSTS if name != "memory MB"]  # the line has to fit into 80 characters
    for title in ("variant", "validation", *columns, "pareto"):
        table.add_column(title, justify="left" if title in ("variant", "pareto") else "right", overflow="fold")
    for line in lines:
        costs = [_amount(line[name]) for name in columns]
        table.add_row(line["variant"], _share(line["val/accuracy"], None), *costs, "*" if line["pareto"] else "")
    out.print()
    out.print(table)
    out.print("* no other is as accurate with as few parameters and FLOPs; times are of one image on the CPU")


def _costs_in_words(lines: Sequence[Mapping[Any, Any]]) -> str:
    """What is known of the costs of networks that are alike; only their times differ, by chance."""
    told = []
    for name, unit in COSTS.items():
        values = [line[name] for line in lines if line[name] is not None]
        if values:
            told.append(f"{' to '.join(dict.fromkeys((_amount(min(values)), _amount(max(values)))))} {unit}")
    return ", ".join(told)


def print_outcome(outcome: Outcome, right: Mapping[str, Right] = UNKNOWN) -> None:
    """The result of a run: the leaderboard, the verdict, the seconds, and where to look next."""
    out, verdict = console(), outcome.verdict
    print_leaderboard([student.model_dump(mode="json") for student in outcome.students], right)
    teacher = _teacher_in_words(outcome.teacher.metrics)
    if teacher:
        out.print(f"teacher: {teacher}", soft_wrap=True)
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
    if verdict.dry_run:
        _print_rules(verdict.evidence)
    told = "dry run, nothing is promoted: " if verdict.dry_run else ""
    out.print(f"verdict     {told}{verdict.reason}", style="bold", soft_wrap=True)
    champion = f"models:/{verdict.model}/{verdict.version}" if verdict.version else f"{verdict.model} has none"
    out.print(f"champion    {champion}", soft_wrap=True)


def _print_rules(evidence: Mapping[str, Any]) -> None:
    """Each of the gate's rules: what was measured, and what is allowed."""
    rules = [*evidence.get("budgets", []), *evidence.get("succession", [])]
    rows = [
        {
            "rule": f"{rule['name']} {rule['about']}".strip(),
            "measured": f"{rule['value']:,}" if isinstance(rule["value"], int) else f"{rule['value']:.4g}",
            "required": rule["bound"],
            "holds": rule["holds"],
        }
        for rule in rules
    ]
    if rows:
        print_table(rows, {key: key for key in rows[0]})


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


def _teacher_in_words(metrics: Mapping[str, float]) -> str:
    from kdmodels.report.leaderboard import cost_columns  # it imports pandas
    from tasks.results import ACCURACY, SIZE  # it imports mlflow

    costs = _costs_in_words([dict.fromkeys(COSTS) | cost_columns(metrics) | {"parameters": metrics.get(SIZE)}])
    return ", ".join(filter(None, (_share(metrics.get(ACCURACY), None), costs)))


def print_classes(rows: Sequence[Mapping[str, Any]]) -> None:
    """The first of a run's classes, the least accurate, as a table."""
    if rows:
        more = f" (the least accurate {CLASSES} of {len(rows)})" if len(rows) > CLASSES else ""
        console().print(f"classes on validation{more}", soft_wrap=True)
        print_table(rows[:CLASSES], {key: key for key in rows[0]})


def print_export(report: Mapping[str, Any]) -> None:
    """What was written, and how near it is to the original."""
    out = console()
    out.print(f"wrote {report['file']}, {_amount(report['exported_file_mb'])} MB", soft_wrap=True)
    out.print(f"the stored weights have {_amount(report['file_mb'])} MB")
    out.print(
        f"on {report['examples']} validation examples: accuracy {_share(report['accuracy'], None)}, "
        f"exported {_share(report['exported_accuracy'], None)}",
        soft_wrap=True,
    )
    out.print(
        f"same class for {_share(report['agreement'], None)}, "
        f"largest difference of a logit {report['largest_difference']:.3g}",
        soft_wrap=True,
    )


def _status(line: Mapping[Any, Any]) -> str:
    if line["status"] != "FINISHED":
        return str(line["status"]).lower()
    return "reused" if line["reused"] else "trained"


def _share(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{100 * mean:.2f} %" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f} %"


def print_garbage(each: Mapping[str, Any], *, dry_run: bool) -> None:
    """A run or a cache that was deleted, or would be."""
    where = f" ({each['run_id']})" if each["run_id"] else f" in {each['folder']}" if each["folder"] else ""
    size = ByteSize(each["bytes"]).human_readable(decimal=True, separator=" ")
    told = f"{each['kind']} {each['name']}{where}, last used {each['last_used']}, {size}"
    console().print(f"{'would delete' if dry_run else 'deleted'} {told}", soft_wrap=True)


def print_collected(found: Mapping[str, Any], *, dry_run: bool) -> None:
    """How much that was, what stays, and what a server keeps."""
    out, size = console(), ByteSize(found["bytes"]).human_readable(decimal=True, separator=" ")
    out.print(f"{'would delete' if dry_run else 'deleted'} {found['deleted']} in all, {size}", soft_wrap=True)
    if found["needed"]:
        told = "older runs stay, since a registered model, a comparison that stays or one that is going on needs them"
        out.print(f"{found['needed']} {told}", soft_wrap=True)
    if not found["for_good"]:
        told = "through a server runs are only marked as deleted and keep their files; on its machine"
        out.print(f"{told} `mlflow gc` deletes them for good", soft_wrap=True)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f}"


def _amount(value: float | None) -> str:
    """A cost, to three digits.

    >>> _amount(52874), _amount(0.0012345), _amount(None)
    ('52,874', '0.00123', '')
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _difference(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None:
        return ""
    interval = "" if low is None or high is None else f" ({100 * low:+.2f} to {100 * high:+.2f})"
    return f"{100 * mean:+.2f}{interval}"


def _p_value(p: float | None) -> str:
    """As the gate writes it.

    >>> _p_value(0.0123), _p_value(1e-6), _p_value(None)
    ('0.012', '< 0.001', '')
    """
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)
