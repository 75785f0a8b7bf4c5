"""The section about the costs: accuracy against parameters, FLOPs and latency, with the Pareto front of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from kdmodels.report import formats
from kdmodels.report.channels import Channel, colours, number, tooltip, values
from kdmodels.report.components import Chart, Component, Section, Spec, Text
from kdmodels.report.contents import Contents
from kdmodels.report.leaderboard import Costs
from kdmodels.report.numbers import points, rounded

TIME = "ms per image (median, CPU)"
AXES: dict[str, Callable[[Costs], float | None]] = {
    "parameters": lambda costs: costs.parameters,
    "MFLOPs per image": lambda costs: costs.mflops,
    TIME: lambda costs: costs.p50_ms,
}
KINDS = ["student", "control", "teacher"]
SAME_NETWORK = (
    "All students have the same network, so they differ in accuracy only. Differences between their measured times are "
    "noise, so no chart shows them."
)


@dataclass(frozen=True)
class Network:
    """A network in the charts of the costs: its name, its kind, its validation accuracy and its costs."""

    name: str
    kind: str
    accuracy: float
    costs: Costs


def costs_section(contents: Contents) -> Section | None:
    """Return the section about the costs. `None` if no costs are known."""
    networks = _networks(contents)
    axes = {axis: cost for axis, cost in AXES.items() if any(cost(each.costs) for each in networks)}
    if not axes:
        return None
    components: list[Component] = []
    students = [each.costs for each in networks if each.kind != "teacher"]
    if len({(costs.parameters, costs.mflops) for costs in students}) == 1 and len(axes) > 1:
        components.append(Text(SAME_NETWORK))
        axes.pop(TIME, None)
    components.append(_chart(networks, axes))
    return Section("costs", "Accuracy against costs", components)


def front(networks: Sequence[Network], cost: Callable[[Costs], float | None]) -> list[Network]:
    """Return the Pareto front of accuracy and one cost, cheapest first.

    A network is on the front if each cheaper network is less accurate, and no equally cheap network is more accurate.

    Args:
        networks: The networks. Networks with an unknown cost are left out.
        cost: The function that returns the cost.
    """
    chosen: list[Network] = []
    known = [(value, each) for each in networks if (value := cost(each.costs)) is not None]
    for _, each in sorted(known, key=lambda pair: (pair[0], -pair[1].accuracy)):
        if not chosen or each.accuracy > chosen[-1].accuracy:
            chosen.append(each)
    return chosen


def _networks(contents: Contents) -> list[Network]:
    controls = {row.student.control for row in contents.finished}
    networks = [
        Network(
            row.student.variant,
            "control" if row.student.variant in controls else "student",
            row.student.accuracy,
            row.costs,
        )
        for row in contents.finished
    ]
    if contents.teacher:
        networks.append(Network("teacher", "teacher", contents.teacher.accuracy, contents.teacher.costs))
    return networks


def _chart(networks: Sequence[Network], axes: dict[str, Callable[[Costs], float | None]]) -> Chart:
    panels: list[JsonValue] = [_panel(networks, axis, cost) for axis, cost in axes.items()]
    spec: Spec = {"hconcat": panels, "resolve": {"scale": {"y": "shared", "color": "shared", "shape": "shared"}}}
    fronts = [f"{axis}: {', '.join(each.name for each in front(networks, cost))}" for axis, cost in axes.items()]
    teacher = [each for each in networks if each.kind == "teacher"]
    about = f" The teacher has {formats.percent(teacher[0].accuracy)}." if teacher else ""
    description = (
        f"Upper left is better. A line connects the Pareto front: no other network is as accurate and as cheap. The "
        f"fronts, cheapest first: {'; '.join(fronts)}.{about}"
    )
    return Chart("pareto", "Validation accuracy against costs, on logarithmic scales", description, spec)


def _panel(networks: Sequence[Network], axis: str, cost: Callable[[Costs], float | None]) -> JsonValue:
    def rows(shown: Sequence[Network]) -> list[Channel]:
        return [
            {"name": each.name, "kind": each.kind, "accuracy": points(each.accuracy), "cost": rounded(value)}
            for each in shown
            if (value := cost(each.costs))  # a logarithmic scale has no 0
        ]

    x, y = number("cost", axis, log=True), number("accuracy", "validation accuracy (%)")
    kind = colours("kind", "network", KINDS)
    return {
        "width": 250,
        "height": 240,
        "layer": [
            {
                "data": values(rows(front(networks, cost))),
                "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [4, 3], "color": "#808080"},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": values(rows(networks)),
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.85},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": kind,
                    "shape": kind,
                    "tooltip": tooltip("name", "kind", accuracy=".2f", cost=".4~g"),
                },
            },
        ],
    }
