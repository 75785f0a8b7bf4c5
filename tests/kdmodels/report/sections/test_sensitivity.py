"""The charts of grids and of searches for hyperparameters."""

from typing import Any

from kdmodels.report.components import Chart
from kdmodels.report.contents import Trial
from kdmodels.report.sections.sensitivity import sensitivity_section
from tests.support.reports import contents

GRID = [
    Trial("kd", {"soft_targets.temperature": temperature}, accuracy)
    for temperature, accuracy in [(1.0, 0.95), (4.0, 0.94), (8.0, 0.9)]
]
SEARCH = [
    Trial("kd", {"lr": 0.001, "soft_targets.weight": 1.0}, 0.9),
    Trial("kd", {"lr": 0.1, "soft_targets.weight": 2.0}, None),
    Trial("hint", {"lr": 0.01}, 0.91),
]


def charts(**changes: Any) -> list[Any]:
    section = sensitivity_section(contents(**changes))
    assert section is not None
    return [each for each in section.components if isinstance(each, Chart)]


def panels(chart: Any) -> list[Any]:
    return [panel for row in chart.spec["vconcat"] for panel in row["hconcat"]]


def test_a_grid_is_drawn_against_its_hyperparameter() -> None:
    (chart,) = charts(grid=GRID)
    (panel,) = panels(chart)
    assert panel["data"]["values"] == [
        {"variant": "kd", "value": 1.0, "accuracy": 95.0},
        {"variant": "kd", "value": 4.0, "accuracy": 94.0},
        {"variant": "kd", "value": 8.0, "accuracy": 90.0},
    ]
    assert panel["encoding"]["x"]["title"] == "soft_targets.temperature"
    assert "The most accurate setting is soft_targets.temperature 1 of kd." in chart.description


def test_two_settings_are_not_drawn() -> None:
    assert sensitivity_section(contents(grid=GRID[:2])) is None


def test_a_search_has_a_panel_for_each_hyperparameter_and_leaves_diverged_trials_out() -> None:
    (chart,) = charts(trials=SEARCH)
    lr, weight = panels(chart)
    assert [row["value"] for row in lr["data"]["values"]] == [0.001, 0.01]
    assert lr["encoding"]["x"]["scale"]["type"] == "log"
    assert [row["variant"] for row in weight["data"]["values"]] == ["kd"]
    assert "1 more diverged" in chart.description


def test_without_grid_and_search_there_is_no_section() -> None:
    assert sensitivity_section(contents(grid=[Trial("kd", {}, 0.9)])) is None
