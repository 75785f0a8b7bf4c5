"""A chart of the decisions about a registered model over time."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdmodels.report.channels import Channel, colours, number, tooltip, values
from kdmodels.report.components import Chart, Spec
from kdmodels.report.numbers import points


@dataclass(frozen=True)
class Decision:
    """A decision of the promotion gate about a registered model.

    Attributes:
        started: The time of the comparison, in ISO 8601.
        winner: The student that the decision is about.
        decision: The decision in one or two words.
        test_accuracy: The student's accuracy on the test split, from 0 to 1. `None` if it was not measured.
    """

    started: str
    winner: str
    decision: str
    test_accuracy: float | None


def history_chart(model: str, decisions: Sequence[Decision]) -> Chart:
    """Return a chart of the test accuracies over time. Decisions without a test accuracy are left out.

    Args:
        model: The name of the registered model.
        decisions: The decisions, from the oldest to the newest.
    """
    measured = [each for each in decisions if each.test_accuracy is not None]
    rows: list[Channel] = [
        {
            "started": each.started,
            "student": each.winner,
            "decision": each.decision,
            "accuracy": points(each.test_accuracy),
        }
        for each in measured
    ]
    decision = colours("decision", "decision", list(dict.fromkeys(each.decision for each in measured)))
    spec: Spec = {
        "width": 640,
        "height": 300,
        "data": values(rows),
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.85},
        "encoding": {
            "x": {"field": "started", "type": "temporal", "title": "start of the comparison"},
            "y": number("accuracy", "accuracy on the test split (%)"),
            "color": decision,
            "shape": decision,
            "tooltip": tooltip("started", "student", "decision", accuracy=".2f"),
        },
    }
    description = f"{len(measured)} decisions about {model}, with the test accuracy of the student of each."
    return Chart("history", f"Decisions about {model}", description, spec)
