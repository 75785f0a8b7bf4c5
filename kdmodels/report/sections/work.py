"""The section on time, memory and reuse: costs of each stage and each training, and which runs were reused."""

from collections.abc import Callable, Sequence

from kdmodels.report import formats
from kdmodels.report.components import Cell, Column, Component, Section, Table, Text
from kdmodels.report.contents import Contents, Effort

MEMORIES: dict[str, Callable[[Effort], float | None]] = {
    "peak memory, MB": lambda effort: effort.memory_mb,
    "peak GPU memory, MB": lambda effort: effort.gpu_memory_mb,
}
ABOUT_MEMORY = (
    "Peak memory is the largest resident memory of the process while the stage or the training ran. It includes the "
    "libraries, the data, and memory that the process kept from earlier work. The memory of a stage does not include "
    "students that were trained in other processes. Students that were trained in threads of one process share its "
    "memory."
)


def work_section(contents: Contents) -> Section | None:
    """Return the section on time, memory and reuse. `None` if nothing is recorded."""
    components: list[Component] = []
    stages, runs = list(contents.stages.values()), [run.effort for run in contents.runs]
    if stages:
        total = sum(stage.seconds or 0.0 for stage in stages)
        rows = [
            [
                Cell(name),
                Cell(formats.amount(stage.seconds)),
                Cell(formats.share((stage.seconds or 0.0) / total if total else None)),
                *_memories(stage, stages),
            ]
            for name, stage in contents.stages.items()
        ]
        columns = [Column("stage"), Column("seconds", numeric=True), Column("share", numeric=True), *_titles(stages)]
        components.append(Table("Time and memory of each stage of the comparison", columns, rows))
    if runs:
        rows = [
            [
                Cell(run.name, run.name),
                Cell(run.action, run.action),
                Cell(formats.amount(run.effort.seconds), run.effort.seconds),
                *_memories(run.effort, runs),
                Cell(run.reason, run.reason),
            ]
            for run in contents.runs
        ]
        time = Column("training, s (all seeds)", numeric=True)
        columns = [Column("run"), Column("action"), time, *_titles(runs), Column("reason")]
        caption = "Runs: what was trained, and what was reused. Students train side by side, so their times overlap"
        components.append(Table(caption, columns, rows, sortable=True))
    if _titles([*stages, *runs]):
        components.append(Text(ABOUT_MEMORY))
    return Section("work", "Time, memory and reuse", components) if components else None


def _titles(efforts: Sequence[Effort]) -> list[Column]:
    """Return one column for each kind of memory that is recorded for at least one of the efforts."""
    return [Column(title, numeric=True) for title, memory in MEMORIES.items() if any(memory(each) for each in efforts)]


def _memories(effort: Effort, efforts: Sequence[Effort]) -> list[Cell]:
    """Return the cells of one effort, in the columns that `_titles` returns for the same `efforts`."""
    megabytes = [memory(effort) for memory in MEMORIES.values() if any(memory(each) for each in efforts)]
    return [Cell(formats.amount(value), value) for value in megabytes]
