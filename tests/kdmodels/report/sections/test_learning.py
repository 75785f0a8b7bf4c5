"""The learning curves of the report."""

from typing import Any

from kdmodels.report.components import Chart, Text
from kdmodels.report.curves import Point
from kdmodels.report.leaderboard import leaderboard
from kdmodels.report.sections.learning import SHOWN, learning_section, shown_variants
from tests.support.reports import contents
from tests.support.students import CONTROL, student

CURVES = {
    "kd": {
        "val/accuracy": [Point(1, 0.5, 0.4, 0.6), Point(2, 0.95, 0.93, 0.98)],
        "train/loss": [Point(1, 9.0, 9.0, 9.0)],
        "train/hard_labels": [Point(1, 2.0, 1.5, 2.5)],
        "train/soft_targets": [Point(1, 7.0, 6.0, 8.0)],
    },
    "hard-labels": {"val/accuracy": [Point(2, 0.92, 0.9, 0.95)], "train/hard_labels": [Point(1, 1.0, 1.0, 1.0)]},
}


def charts(**changes: Any) -> tuple[Any, Any]:
    section = learning_section(contents(**{"curves": CURVES} | changes))
    assert section is not None
    accuracy, terms = [each for each in section.components if isinstance(each, Chart)]
    return accuracy, terms


def test_the_accuracy_is_drawn_with_its_band() -> None:
    accuracy, _ = charts()
    assert accuracy.spec["data"]["values"] == [
        {"variant": "kd", "epoch": 1, "mean": 50.0, "low": 40.0, "high": 60.0},
        {"variant": "kd", "epoch": 2, "mean": 95.0, "low": 93.0, "high": 98.0},
        {"variant": "hard-labels", "epoch": 2, "mean": 92.0, "low": 90.0, "high": 95.0},
    ]
    assert "kd 95.00 %, hard-labels 92.00 %" in accuracy.description


def test_each_loss_term_has_a_panel_and_the_sum_has_none() -> None:
    _, terms = charts()
    panels = [panel for row in terms.spec["vconcat"] for panel in row["hconcat"]]
    titles = [panel["layer"][1]["encoding"]["y"]["title"] for panel in panels]
    assert titles == ["hard_labels", "soft_targets"]
    assert [row["variant"] for row in panels[0]["data"]["values"]] == ["kd", "hard-labels"]


def test_many_variants_leave_the_best_and_the_control_of_the_winner() -> None:
    better = [student(f"kd-{number}", [0.96, 0.97, 0.98]) for number in range(SHOWN + 2)]
    of = contents(rows=leaderboard([CONTROL, *better]), winner="kd-0")
    shown = shown_variants(of)
    assert shown == [*(f"kd-{number}" for number in range(SHOWN - 1)), "hard-labels"]
    curves = dict.fromkeys(shown, CURVES["kd"])
    section = learning_section(contents(rows=of.rows, winner="kd-0", curves=curves))
    assert section is not None
    assert section.components[0] == Text("Shown are 8 of 11 variants: the best ones, and the control of the winner.")


def test_without_histories_there_is_no_section() -> None:
    assert learning_section(contents()) is None
