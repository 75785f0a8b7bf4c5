"""Functions that print the leaderboard, which is the table that ranks the students of a comparison.

`LEADERBOARD` defines the columns that `kd run` prints. The columns of `BRIEF_COST_COLUMNS` are added if the costs
differ and the terminal is wide enough. `EVIDENCE` and `COSTS` define two more tables, which `--details` prints. An
empty column is left out. `kdmodels/report/tables.py` defines the columns of `kd compare --csv` and `--markdown`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from rich.table import Table

from kd.console import cell, console, fitting, new_table, print_entry
from kdmodels.evaluation.correctness import UNKNOWN, Correctness
from kdmodels.evaluation.significance import LEVEL, RESAMPLES
from kdmodels.experiment.metrics import Metric
from kdmodels.report import formats
from kdmodels.report.conclusion import conclusion
from kdmodels.report.leaderboard import Costs, LeaderboardRow, leaderboard, metric_names
from kdmodels.report.leaderboard import costs as costs_of
from tasks.references import StudentReference
from tasks.results import ACCURACY, SIZE
from tasks.tuned_values import tuning_in_words


class Column(NamedTuple):
    """A column of a table. It consists of a title and a function that returns the text of a row's cell."""

    title: str
    cell: Callable[[LeaderboardRow], str]
    justify: Literal["left", "right"] = "left"


def _accuracy_or_status(row: LeaderboardRow) -> str:
    return formats.accuracy(row.accuracy, row.std) if row.student.finished else row.student.status.lower()


def _difference(row: LeaderboardRow) -> str:
    evidence = row.evidence
    return formats.difference(
        evidence.control_difference, evidence.control_difference_low, evidence.control_difference_high
    )


def _cost(title: str, cost: Callable[[Costs], float | None]) -> Column:
    return Column(title, lambda row: formats.amount(cost(row.costs)), "right")


VARIANT = Column("variant", lambda row: row.student.variant)
LEADERBOARD = [
    Column("#", lambda row: cell(row.rank), "right"),
    VARIANT,
    Column("validation %", _accuracy_or_status),
    Column("vs control (95 %)", _difference),
    Column("p (Holm)", lambda row: formats.p_value(row.evidence.control_p_holm)),
]
METRICS_AFTER = 3  # columns of LEADERBOARD that come before the metrics of the experiment
# These costs are columns of the leaderboard if the students' costs differ and the terminal is wide enough.
BRIEF_COSTS: dict[str, Callable[[Costs], float | None]] = {
    "parameters": lambda costs: costs.parameters,
    "MFLOPs": lambda costs: costs.mflops,
    "ms/image": lambda costs: costs.p50_ms,
}
BRIEF_COST_COLUMNS = [_cost(title, cost) for title, cost in BRIEF_COSTS.items()]
COSTS = [  # shown with `--details`
    *BRIEF_COST_COLUMNS,
    _cost("file MB", lambda costs: costs.file_mb),
    _cost("memory MB", lambda costs: costs.memory_mb),
    Column("pareto", lambda row: cell(row.efficient)),
]
EVIDENCE = [  # shown with `--details`
    VARIANT,
    Column("group", lambda row: cell(row.evidence.group), "right"),
    Column("over seeds", lambda row: formats.interval(row.low, row.high)),
    Column("over examples", lambda row: formats.interval(row.evidence.examples_low, row.evidence.examples_high)),
    Column("vs control", lambda row: formats.interval(row.evidence.bootstrap_low, row.evidence.bootstrap_high)),
    Column("McNemar", lambda row: formats.p_value(row.evidence.control_p_mcnemar)),
    Column("wins", lambda row: formats.share(row.evidence.wins)),
]
LEGEND = (
    "vs control (95 %), over seeds: t intervals over seeds; over examples: Wilson intervals. Intervals are not "
    "corrected for the number of comparisons. p (Holm): paired t tests over seeds; McNemar: exact tests over examples, "
    "both against the control and corrected after Holm. vs control and wins: "
    f"{RESAMPLES:,} bootstrap resamples of seeds and examples. Variants of one group do not differ significantly from "
    "the first of the group: two variants differ if both tests say so at 5 %, corrected for all pairs. pareto: no "
    "other variant is as accurate with as few parameters and FLOPs."
)


def print_leaderboard(
    students: Sequence[StudentReference], correctness: Mapping[str, Correctness] = UNKNOWN, *, details: bool = False
) -> None:
    """Print the conclusion, the leaderboard, and the error of each failed student.

    Args:
        correctness: Which validation examples each student classifies correctly, by the id of the student's run.
        details: Whether to also print the details. The details are the statistical tests and intervals over examples,
            all costs, and a legend.
    """
    rows = leaderboard(students, correctness)
    print_entry("result", conclusion(rows))
    finished = [row for row in rows if row.student.finished]
    same_costs = len({(row.costs.parameters, row.costs.mflops) for row in finished}) <= 1
    metrics = [_metric(name) for name in metric_names(rows)]
    leading = [*LEADERBOARD[:METRICS_AFTER], *metrics, *LEADERBOARD[METRICS_AFTER:]]
    columns = leading if same_costs else [*leading, *BRIEF_COST_COLUMNS]
    print_columns(columns, rows, optional=[column.title for column in reversed([*metrics, *BRIEF_COST_COLUMNS])])
    print_entry("tuning", tuning_in_words(students))
    if same_costs and finished:
        print_entry("students", costs_in_words([row.costs for row in finished]))
    elif pareto := [row.student.variant for row in finished if row.efficient]:
        names = "all students" if len(pareto) == len(finished) else ", ".join(pareto)
        print_entry("pareto", f"{names}: no other is as accurate with as few parameters and FLOPs")
    if reused := [row.student.variant for row in finished if row.student.reused]:
        print_entry("reused", "all students" if len(reused) == len(rows) else ", ".join(reused))
    if details:
        print_correction_note(finished)
        print_columns(EVIDENCE, finished, optional=["over seeds", "over examples", "group"])
        print_columns([VARIANT, *COSTS], finished, optional=["memory MB", "file MB", "MFLOPs"])
        print_entry("legend", LEGEND)
    for student in students:
        if student.error:
            print_entry("failed", f"{student.variant}: {student.error}", style="red")


def _metric(name: str) -> Column:
    """Return the column of a metric that the experiment names in `metrics`."""
    return Column(Metric(name=name).title, lambda row: row.metric(name))


def print_correction_note(rows: Sequence[LeaderboardRow]) -> None:
    """Print why an interval can exclude 0 although its corrected p-value is not significant, if there is such a row."""
    p_values = [(row.evidence.control_p, row.evidence.control_p_holm, row.student.variant) for row in rows]
    tested = [(p, holm, variant) for p, holm, variant in p_values if p is not None and holm is not None]
    if names := [variant for p, holm, variant in tested if p < LEVEL <= holm]:
        text = f"but p is not below {LEVEL}: p is corrected for all {len(tested)} comparisons, the interval is not"
        print_entry("note", f"{', '.join(names)}: the interval excludes 0, {text}")


def print_columns(columns: Sequence[Column], rows: Sequence[LeaderboardRow], optional: Sequence[str] = ()) -> None:
    """Print an empty line, then the rows as a table.

    Args:
        optional: Titles of columns that are left out, from the first on, until the table fits into the terminal.
    """

    def table_without(left_out: Collection[str]) -> Table:
        return _table([column for column in columns if column.title not in left_out], rows)

    console().print("", fitting(table_without, optional), sep="\n")


def _table(columns: Iterable[Column], rows: Sequence[LeaderboardRow]) -> Table:
    """Return the rows as a table. Leave out each column whose cells are all empty."""
    table = new_table()
    cells = [(column, [column.cell(row) for row in rows]) for column in columns]
    shown = [(column, entries) for column, entries in cells if any(entries)]
    for column, _ in shown:
        table.add_column(column.title, justify=column.justify, overflow="fold")
    for entries in zip(*(entries for _, entries in shown), strict=True):
        table.add_row(*entries)
    return table


def costs_in_words(costs: Sequence[Costs]) -> str:
    """Describe the costs of networks that have the same architecture.

    The networks have the same size. Their measured times differ by chance, so a range of times is shown.
    """
    words = []
    for title, cost in BRIEF_COSTS.items():
        values = [value for network in costs if (value := cost(network)) is not None]
        if values:
            ends = dict.fromkeys((formats.amount(min(values)), formats.amount(max(values))))
            words.append(f"{' to '.join(ends)} {title}")
    return ", ".join(words)


def network_in_words(metrics: Mapping[str, float]) -> str:
    """Describe the accuracy and the costs of one network, given the metrics of the network's run."""
    parameters = int(metrics[SIZE]) if SIZE in metrics else None
    words = costs_in_words([costs_of(parameters, metrics)])
    return ", ".join(filter(None, (formats.percent(metrics.get(ACCURACY)), words)))
