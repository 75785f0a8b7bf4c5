"""The charts of accuracy against costs, and their Pareto fronts."""

from typing import Any

from kdmodels.report.components import Chart, Text
from kdmodels.report.leaderboard import Costs, leaderboard
from kdmodels.report.sections.costs import SAME_NETWORK, Network, costs_section, front
from tests.support.reports import contents
from tests.support.students import CONTROL, KD


def network(name: str, accuracy: float, parameters: int | None) -> Network:
    return Network(name, "student", accuracy, Costs(parameters))


def names_of_front(*networks: Network) -> list[str]:
    return [each.name for each in front(networks, lambda costs: costs.parameters)]


def test_a_network_on_the_front_is_more_accurate_than_all_cheaper_ones() -> None:
    small, worse, large = network("small", 0.9, 10), network("worse", 0.89, 20), network("large", 0.95, 30)
    assert names_of_front(large, worse, small) == ["small", "large"]


def test_equal_costs_leave_the_most_accurate_network_and_unknown_costs_none() -> None:
    assert names_of_front(network("a", 0.9, 10), network("b", 0.91, 10), network("c", 0.99, None)) == ["b"]
    assert names_of_front(network("a", 0.9, 10), network("b", 0.9, 20)) == ["a"]


def test_the_charts_show_students_controls_and_the_teacher() -> None:
    section = costs_section(contents())
    assert section is not None
    assert section.components[0] == Text(SAME_NETWORK)
    (chart,) = [each for each in section.components if isinstance(each, Chart)]
    spec: Any = chart.spec
    parameters, flops = spec["hconcat"]  # no latency is known
    values = parameters["layer"][1]["data"]["values"]
    assert [(row["name"], row["kind"], row["accuracy"], row["cost"]) for row in values] == [
        ("kd", "student", 95.0, 100.0),
        ("hard-labels", "control", 92.0, 100.0),
        ("teacher", "teacher", 98.0, 1000.0),
    ]
    assert [row["name"] for row in flops["layer"][1]["data"]["values"]] == ["teacher"]
    assert "parameters: kd, teacher" in chart.description


def test_without_any_cost_there_is_no_section() -> None:
    unknown = [student.model_copy(update={"parameters": None}) for student in (CONTROL, KD)]
    assert costs_section(contents(rows=leaderboard(unknown), teacher=None)) is None
