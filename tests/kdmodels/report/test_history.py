"""The chart of the decisions about a model."""

from typing import Any

from kdmodels.report.history import Decision, history_chart
from kdmodels.report.vega import to_file


def test_decisions_with_a_test_accuracy_are_drawn() -> None:
    chart = history_chart(
        "digits-student",
        [
            Decision("2026-01-01T03:00:00+00:00", "kd", "promoted", 0.95),
            Decision("2026-01-02T03:00:00+00:00", "kd", "refused", None),
            Decision("2026-01-03T03:00:00+00:00", "hint", "refused", 0.94),
        ],
    )
    spec: Any = chart.spec
    assert [(row["student"], row["decision"], row["accuracy"]) for row in spec["data"]["values"]] == [
        ("kd", "promoted", 95.0),
        ("hint", "refused", 94.0),
    ]
    assert chart.description == "2 decisions about digits-student, with the test accuracy of the student of each."
    assert b"digits-student" in to_file(chart, "svg")
