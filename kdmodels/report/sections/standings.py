"""The section with the leaderboard: a table that can be sorted, and a chart of the accuracies with their intervals."""

from collections.abc import Sequence

from pydantic import JsonValue

from kdmodels.evaluation.ranking import ACCURACY
from kdmodels.experiment.variants import EQUAL_STEPS as STEPS_SUFFIX
from kdmodels.report import formats
from kdmodels.report.channels import Channel, colours, name, number, tooltip, values
from kdmodels.report.components import Cell, Chart, Column, Component, Legend, Section, Spec, Table, Text
from kdmodels.report.contents import Contents, Teacher
from kdmodels.report.gap import Gap, gaps_closed
from kdmodels.report.leaderboard import LeaderboardRow, metric_names
from kdmodels.report.losses import LETTERS
from kdmodels.report.numbers import points

WIDTH = 640  # width of the chart in pixels
COLUMNS = [
    Column("#", numeric=True, help="Rank by the mean of the validation accuracy, or of the metric in rank_by."),
    Column("variant"),
    Column("validation %", numeric=True, help="Mean accuracy on validation images, and standard deviation over seeds."),
    Column("95 % interval", numeric=True, help="Student's t interval of the mean over seeds."),
    Column("vs control", numeric=True, help="Points above the control, with a 95 % interval paired by seed."),
    Column("p (Holm)", numeric=True, help="Paired t test against the control, corrected for all such tests."),
    Column("gap closed", numeric=True, help="Share of the gap from the control to the teacher."),
    Column("group", numeric=True, help="Variants of one group do not differ significantly from its first."),
    Column("parameters", numeric=True),
    Column("MFLOPs", numeric=True, help="For one image, in millions. A multiplication with an addition counts as 2."),
    Column("ms/image", numeric=True, help="Median time of one image on the CPU."),
    Column("Pareto", help="Whether no other variant is as accurate with as few parameters and FLOPs."),
]
GROUPS = (
    "Variants of one group do not differ significantly from the first variant of the group. Group 1 holds the best "
    "variant. Two variants count as different only if two tests agree, one over the seeds and one over the validation "
    "images, both at 5 % and corrected for the number of pairs."
)
SYMBOLS = "Letters in formulas"
EQUAL_STEPS = (
    "{control} learns from the labels alone, for as many steps as the distilled students, so that more steps cannot "
    "explain a gain."
)


def standings_section(contents: Contents) -> Section:
    """Return the section with the leaderboard."""
    explanations = {column.title: column.help for column in _columns(contents) if column.help}
    components: list[Component] = [standings_table(contents), Legend("What the columns mean", explanations)]
    if contents.objectives:
        symbols = {SYMBOLS: " ".join(LETTERS)} if contents.formulas else {}
        losses = {**contents.objectives, **contents.formulas, **symbols}
        components.append(Legend("What the variants and their losses are", losses))
    components.append(Text(GROUPS))
    components += [Text(text) for text in _controls(contents.finished)]
    components.append(Text(f"Hyperparameters: {contents.tuning}."))
    components += [
        Text(f"{row.student.variant}: {row.student.status.lower()}", role="note")
        for row in contents.rows
        if not row.student.finished
    ]
    if contents.finished:
        components.append(accuracy_chart(contents))
    return Section("leaderboard", "Leaderboard", components)


def standings_table(contents: Contents) -> Table:
    """Return the leaderboard as a table with the columns `COLUMNS`, and one column for each metric."""
    metrics = metric_names(contents.rows)
    gaps = gaps_closed(contents.rows, contents.teacher.accuracy if contents.teacher else None)
    return Table(
        caption="Leaderboard. The titles of the columns sort the table.",
        columns=_columns(contents),
        rows=[
            [*_cells(row, gaps.get(row.student.variant)), *(_metric_cell(row, name) for name in metrics)]
            for row in contents.rows
        ],
        sortable=True,
    )


def _columns(contents: Contents) -> list[Column]:
    help_text = "Mean of the metric on validation images, and standard deviation over seeds."
    return [*COLUMNS, *(Column(name, numeric=True, help=help_text) for name in metric_names(contents.rows))]


def _metric_cell(row: LeaderboardRow, name: str) -> Cell:
    return Cell(row.metric(name), row.student.score(name) if name in row.student.scores else None)


def accuracy_chart(contents: Contents) -> Chart:
    """Return a chart of the accuracy of each variant: its seeds, its mean, its interval, and the teacher."""
    rows = contents.finished
    means: list[Channel] = [
        {
            "variant": row.student.variant,
            "mean": points(row.accuracy),
            "low": points(row.low),
            "high": points(row.high),
            "group": "not tested" if row.evidence.group is None else str(row.evidence.group),
        }
        for row in rows
    ]
    seeds: list[Channel] = [
        {"variant": row.student.variant, "seed": seed, "accuracy": points(value)}
        for row in rows
        for seed, value in zip(row.student.seeds, row.student.per_seed[ACCURACY], strict=True)
    ]
    shown = tooltip("variant", "group", mean=".2f", low=".2f", high=".2f")
    groups = list(dict.fromkeys(str(row["group"]) for row in means))
    group, title = colours("group", "group", groups), "validation accuracy (%)"
    layers: list[JsonValue] = [
        {
            "data": values(seeds),
            "mark": {"type": "tick", "color": "#808080", "opacity": 0.7, "thickness": 2, "size": 12},
            "encoding": {
                "x": number("accuracy", title),
                "tooltip": tooltip("variant", "seed", accuracy=".2f"),
            },
        },
        {
            "data": values(means),
            "mark": {"type": "rule", "strokeWidth": 2, "color": "#808080"},
            "encoding": {"x": number("low", title), "x2": {"field": "high"}, "tooltip": shown},
        },
        {
            "data": values(means),
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {
                "x": number("mean", title),
                "color": group,
                "shape": group,
                "tooltip": shown,
            },
        },
    ]
    if contents.teacher:
        layers.append(
            {
                "data": values([{"teacher": points(contents.teacher.accuracy)}]),
                "mark": {"type": "rule", "strokeDash": [4, 4]},
                "encoding": {
                    "x": number("teacher", title),
                    "y": {"value": 0},
                    "y2": {"value": "height"},
                    "tooltip": tooltip(teacher=".2f"),
                },
            }
        )
    y = name("variant", order=[row.student.variant for row in rows])
    spec: Spec = {"width": WIDTH, "height": {"step": 22}, "encoding": {"y": y}, "layer": layers}
    return Chart("accuracies", "Validation accuracy by variant", _describe(rows, contents.teacher), spec)


def _controls(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return a sentence that names the control, or the control of each variant if there are several controls."""
    compared: dict[str, list[str]] = {}
    for row in rows:
        if row.student.control and row.student.control != row.student.variant:
            compared.setdefault(row.student.control, []).append(row.student.variant)
    parts = [f"the control of {', '.join(variants)} is {control}" for control, variants in compared.items()]
    several = f"There are {len(compared)} controls: {'; '.join(parts)}."
    controls = [several] if len(compared) > 1 else [f"The control is {control}." for control in compared]
    equal_steps = [EQUAL_STEPS.format(control=control) for control in compared if control.endswith(STEPS_SUFFIX)]
    return [" ".join([*controls, *equal_steps])] if controls else []


def _describe(rows: Sequence[LeaderboardRow], teacher: Teacher | None) -> str:
    best, worst = rows[0], rows[-1]
    line = f" The dashed line is the teacher, {formats.percent(teacher.accuracy)}." if teacher else ""
    return (
        f"Points are means over seeds, lines their 95 % intervals, ticks single seeds. The accuracies range from "
        f"{formats.percent(worst.accuracy)} ({worst.student.variant}) to {formats.percent(best.accuracy)} "
        f"({best.student.variant}).{line}"
    )


def _cells(row: LeaderboardRow, gap: Gap | None) -> list[Cell]:
    evidence, costs, best = row.evidence, row.costs, row.rank == 1
    difference = formats.difference(
        evidence.control_difference, evidence.control_difference_low, evidence.control_difference_high
    )
    measured = formats.accuracy(row.accuracy, row.std) if row.student.finished else row.student.status.lower()
    return [
        Cell("" if row.rank is None else str(row.rank), row.rank, mark=best),
        Cell(row.student.variant, row.student.variant, mark=best),
        Cell(measured, row.accuracy, mark=best),
        Cell(formats.interval(row.low, row.high), row.low),
        Cell(difference, evidence.control_difference),
        Cell(formats.p_value(evidence.control_p_holm), evidence.control_p_holm),
        Cell(formats.share(gap.share if gap else None), gap.share if gap else None),
        Cell("" if evidence.group is None else str(evidence.group), evidence.group),
        Cell(formats.amount(costs.parameters), costs.parameters),
        Cell(formats.amount(costs.mflops), costs.mflops),
        Cell(formats.amount(costs.p50_ms), costs.p50_ms),
        Cell({True: "yes", False: "no", None: ""}[row.efficient], {True: 1, False: 0, None: None}[row.efficient]),
    ]
