"""The section about calibration: how well each network's confidence matches its accuracy."""

from kdmodels.report.channels import Channel, grid, tooltip, values
from kdmodels.report.components import Chart, Section
from kdmodels.report.contents import Contents
from kdmodels.report.numbers import rounded
from kdmodels.report.predictions import NetworkSummary
from kdmodels.report.sections.classes import label


def calibration_section(contents: Contents) -> Section | None:
    """Return the section about calibration. `None` if no predictions are recorded."""
    if contents.predictions is None:
        return None
    networks = contents.predictions.networks
    errors = ", ".join(f"{label(each)} {each.calibration_error:.3f}" for each in networks)
    description = (
        "A point is a bin of images with similar confidence. Its area is the number of images. On the diagonal, the "
        f"confidence is the accuracy; below, the network is too sure. Expected calibration errors: {errors}."
    )
    panels = [_panel(network, first=not index) for index, network in enumerate(networks)]
    chart = Chart("reliability", "Reliability diagrams", description, grid(panels, columns=len(panels)))
    return Section("calibration", "Calibration", [chart])


def _panel(network: NetworkSummary, *, first: bool) -> Channel:
    rows: list[Channel] = [
        {
            "confidence": rounded(100 * each.confidence),
            "accuracy": rounded(100 * each.accuracy),
            "examples": each.examples,
        }
        for each in network.bins
    ]
    x, y = _percent("confidence", "confidence (%)"), _percent("accuracy", "accuracy (%)" if first else None)
    ends = values([{"confidence": 0, "accuracy": 0}, {"confidence": 100, "accuracy": 100}])
    return {
        "title": f"{label(network)}, ECE {network.calibration_error:.3f}",
        "width": 240,
        "height": 240,
        "layer": [
            {
                "data": ends,
                "mark": {"type": "line", "strokeDash": [4, 4], "color": "#808080", "strokeWidth": 1},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": values(rows),
                "mark": {"type": "line", "strokeWidth": 1.5, "color": "#0072B2"},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": values(rows),
                "mark": {"type": "point", "filled": True, "color": "#0072B2", "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "size": {"field": "examples", "type": "quantitative", "legend": None},
                    "tooltip": tooltip("examples", confidence=".1f", accuracy=".1f"),
                },
            },
        ],
    }


def _percent(field: str, title: str | None) -> Channel:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"domain": [0, 100]}}
