"""The whole report: its order, its size, and what its charts are in Vega-Lite."""

import numpy as np
import pytest
import vl_convert

from kdmodels.report.components import Chart
from kdmodels.report.contents import Contents, DataFacts, Effort, PlannedRun, Trial
from kdmodels.report.curves import curves
from kdmodels.report.leaderboard import leaderboard
from kdmodels.report.predictions import Predictions, summarise
from kdmodels.report.report import description, html, images, markdown, sections, summary
from kdmodels.report.sections.learning import SHOWN
from kdmodels.report.vega import VEGA_LITE
from tests.support.reports import Page, contents
from tests.support.students import student

HOSTILE = "</script><b>'\"&{{7*7}}datum.x"
VARIANTS, SEEDS, EPOCHS, CLASSES = 50, 10, 240, 10


@pytest.fixture(scope="module")
def large() -> Contents:
    """The contents of a comparison of 50 variants with 10 seeds, with hostile names."""
    generator = np.random.default_rng(0)
    names = ["hard-labels", *(f"{HOSTILE} {number}" for number in range(VARIANTS - 1))]
    students = [student(name, generator.uniform(0.9, 1, SEEDS).tolist()) for name in names]
    rows = leaderboard(students)
    histories = [
        [{"val/accuracy": 0.9, f"train/{HOSTILE}": value} for value in generator.random(EPOCHS).tolist()]
        for _ in range(SEEDS)
    ]
    labels, probabilities = generator.integers(0, CLASSES, 500), generator.dirichlet(np.ones(CLASSES), 500)
    return contents(
        experiment=HOSTILE,
        rows=rows,
        winner=rows[0].student.variant,
        notes=[HOSTILE],
        curves={row.student.variant: curves(histories) for row in rows[:SHOWN]},
        trials=[Trial(HOSTILE, {HOSTILE: float(number)}, 0.9) for number in range(1, 30)],
        grid=[
            Trial(HOSTILE, {HOSTILE: value}, accuracy) for value, accuracy in [(1, 0.9), (2, None), (3, 0.8), (4, 0.7)]
        ],
        predictions=Predictions(
            classes=[f"{HOSTILE} {number}" for number in range(CLASSES)],
            examples=len(labels),
            networks=[summarise(role, HOSTILE, probabilities, labels) for role in ("student", "control", "teacher")],
            disagreements=[],
        ),
        runs=[PlannedRun(HOSTILE, "train", HOSTILE)],
        stages={"students": Effort(seconds=1.0, memory_mb=400.0)},
        data=DataFacts(HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: 1}, [HOSTILE], [HOSTILE]),
        versions={"torch": HOSTILE},
        spec=HOSTILE,
    )


def charts_of(of: Contents) -> list[Chart]:
    return [each for section in sections(of) for each in section.components if isinstance(each, Chart)]


def test_the_sections_come_in_the_order_of_a_readers_questions(large: Contents) -> None:
    names = [section.name for section in sections(large)]
    assert names == [
        "verdict",
        "leaderboard",
        "costs",
        "learning",
        "classes",
        "calibration",
        "sensitivity",
        "work",
        "data",
        "reproduce",
    ]
    assert [section.name for section in sections(contents())] == ["verdict", "leaderboard", "costs", "reproduce"]


def test_a_report_of_50_variants_with_10_seeds_is_smaller_than_5_mb(large: Contents) -> None:
    assert len(html(large).encode()) < 5_000_000


def test_hostile_names_add_no_element(large: Contents) -> None:
    tags = [tag for tag, _ in Page(html(large)).elements]
    assert "b" not in tags
    assert tags.count("script") == 2 + len(charts_of(large))


def test_every_chart_is_drawn_with_its_names(large: Contents) -> None:
    charts = charts_of(large)
    assert len({chart.name for chart in charts}) == len(charts) == 9
    for chart in charts:
        svg = vl_convert.vegalite_to_svg(dict(chart.spec), VEGA_LITE)
        assert svg.count("<path") > 10
        assert "NaN" not in svg


def test_the_description_of_a_run_fits_into_a_tag(large: Contents) -> None:
    links = {"Report with charts": "#/report.html", "Students side by side": f"#/compare-runs?runs={'x' * 1_300}"}
    text = description(large, links)
    assert text.startswith("## Verdict\n\n**")  # the UI hides all but the first lines
    assert "\n\n[Report with charts](#/report.html) | [Students side by side](#/compare-runs?" in text
    assert len(text) < 8_000
    assert "35 more rows are in MLflow." in text


def test_the_description_of_an_experiment_begins_with_the_verdict(large: Contents) -> None:
    text = summary(contents(), {"Comparison": "#/run"})
    first, last = text.split("\n\n")
    assert first == "**kd becomes the first champion.**"
    assert last == "Verdict of the comparison of 2026-01-02: [Comparison](#/run)"
    assert "ended before the promotion gate decided" in summary(contents(verdict=None), {})


def test_the_main_charts_are_images(large: Contents) -> None:
    drawn = images(large)
    assert {*drawn} == {"accuracies.svg", "pareto.svg", "learning-curves.svg", "confusion-matrices.svg"}
    assert all(content.startswith(b"<svg") for content in drawn.values())
    assert {*images(contents())} == {"accuracies.svg", "pareto.svg"}


def test_markdown_has_every_row(large: Contents) -> None:
    assert markdown(large).count("\n| ") > VARIANTS
