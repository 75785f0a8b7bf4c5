"""The section of the work: how long each stage took, and what was trained and reused."""

from kdmodels.report import formats
from kdmodels.report.components import Cell, Column, Component, Section, Table
from kdmodels.report.contents import Contents


def work_section(contents: Contents) -> Section | None:
    """Return the section of the work. `None` if nothing is recorded."""
    components: list[Component] = []
    if contents.seconds:
        total = sum(contents.seconds.values())
        rows = [
            [Cell(stage), Cell(formats.amount(seconds)), Cell(formats.share(seconds / total if total else None))]
            for stage, seconds in contents.seconds.items()
        ]
        columns = [Column("stage"), Column("seconds", numeric=True), Column("share", numeric=True)]
        components.append(Table("Time of each stage of the comparison", columns, rows))
    if contents.runs:
        rows = [
            [
                Cell(run.name, run.name),
                Cell(run.action, run.action),
                Cell(formats.amount(run.seconds), run.seconds),
                Cell(run.reason, run.reason),
            ]
            for run in contents.runs
        ]
        columns = [Column("run"), Column("action"), Column("training, s", numeric=True), Column("reason")]
        components.append(Table("Runs: what was trained, and what was reused", columns, rows, sortable=True))
    return Section("work", "Time and reuse", components) if components else None
