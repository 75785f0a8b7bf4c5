"""The leaderboard of the report: its numbers equal those of its rows."""

from typing import Any

import pytest

from kdmodels.report.components import Chart, Legend, Section, Table, Text
from kdmodels.report.leaderboard import leaderboard
from kdmodels.report.sections.standings import accuracy_chart, standings_section
from tests.support.reports import column, contents
from tests.support.students import CONTROL, KD, failed, student


def table_of(section: Section) -> Table:
    (table,) = [each for each in section.components if isinstance(each, Table)]
    return table


def values(chart: Chart, layer: int) -> list[dict[str, Any]]:
    layers: Any = chart.spec["layer"]
    rows: list[dict[str, Any]] = layers[layer]["data"]["values"]
    return rows


def test_the_table_has_the_numbers_of_the_rows() -> None:
    table = table_of(standings_section(contents()))
    assert column(table, "variant") == ["kd", "hard-labels", "broken"]
    assert column(table, "#") == ["1", "2", ""]
    assert column(table, "validation %") == ["95.00 ± 2.65", "92.00 ± 2.65", "failed"]
    assert column(table, "vs control") == ["+3.00 (0.52 to 5.48)", "", ""]
    assert column(table, "gap closed") == ["50 %", "", ""]
    assert column(table, "parameters") == ["100", "100", ""]
    assert table.sortable
    orders = [row[2].order for row in table.rows]
    assert orders == [pytest.approx(0.95), pytest.approx(0.92), None]


def test_failed_students_are_named() -> None:
    notes = [each.text for each in standings_section(contents()).components if isinstance(each, Text) and each.role]
    assert notes == ["broken: failed"]


def test_the_controls_are_named() -> None:
    rows = leaderboard(
        [CONTROL, KD, student("steps", [0.9, 0.92], control="steps"), student("dist", [0.8], control="steps")]
    )
    texts = [each.text for each in standings_section(contents(rows=rows)).components if isinstance(each, Text)]
    assert "There are 2 controls: the control of kd is hard-labels; the control of dist is steps." in texts
    name = "hard-labels-equal-steps"
    rows = leaderboard([CONTROL, KD, student(name, [0.9], control=name), student("dist", [0.8], control=name)])
    texts = [each.text for each in standings_section(contents(rows=rows)).components if isinstance(each, Text)]
    assert [text for text in texts if f"{name} learns from the labels alone, for as many steps as" in text]
    only = leaderboard([student(name, [0.9], control=name), student("dist", [0.8], control=name)])
    texts = [
        each.text for each in standings_section(contents(rows=only, winner=name)).components if isinstance(each, Text)
    ]
    assert [text for text in texts if text.startswith(f"The control is {name}. {name} learns from the labels alone")]
    assert Text("The control is hard-labels.") in standings_section(contents()).components
    alone = contents(rows=leaderboard([CONTROL]), winner="hard-labels")
    texts = [each.text for each in standings_section(alone).components if isinstance(each, Text)]
    assert not [text for text in texts if "control" in text]


def test_the_losses_are_explained() -> None:
    of = contents(objectives={"kd": "1 soft_targets, temperature 4"}, formulas={"soft_targets": "T² KL"})
    legends = [each for each in standings_section(of).components if isinstance(each, Legend)]
    assert [each.title for each in legends] == ["What the columns mean", "What the variants and their losses are"]
    assert {"kd": "1 soft_targets, temperature 4", "soft_targets": "T² KL"}.items() <= legends[1].entries.items()
    assert len([each for each in standings_section(contents()).components if isinstance(each, Legend)]) == 1


def test_the_chart_shows_each_seed_mean_and_interval() -> None:
    of = contents()
    chart = accuracy_chart(of)
    assert [row["accuracy"] for row in values(chart, 0)] == [94, 93, 98, 90, 91, 95]
    means = values(chart, 1)
    assert [row["variant"] for row in means] == ["kd", "hard-labels"]
    assert [row["mean"] for row in means] == pytest.approx([95.0, 92.0])
    row = of.rows[0]
    assert row.low is not None
    assert means[0]["low"] == pytest.approx(100 * row.low, abs=1e-3)
    assert values(chart, 3) == [{"teacher": 98.0}]
    assert "from 92.00 % (hard-labels) to 95.00 % (kd)" in chart.description
    assert "98.00 %" in chart.description


def test_variants_without_tests_have_no_group() -> None:
    rows = leaderboard([student("kd", [0.95]), student("hard-labels", [0.92])])
    means = values(accuracy_chart(contents(rows=rows, teacher=None)), 1)
    assert [(row["group"], row["low"]) for row in means] == [("1", None), ("not tested", None)]


def test_without_a_finished_student_there_is_no_chart() -> None:
    section = standings_section(contents(rows=leaderboard([failed("broken")]), winner=None))
    assert not [each for each in section.components if isinstance(each, Chart)]


def test_metrics_of_the_experiment_are_columns() -> None:
    scores = {"macro_f1": [0.5, 0.7]}
    rows = leaderboard([KD.model_copy(update={"scores": scores}), CONTROL])
    table = table_of(standings_section(contents(rows=rows)))
    assert column(table, "macro_f1") == ["0.6 ± 0.14", ""]
