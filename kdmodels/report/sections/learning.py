"""The section with the learning curves: validation accuracy and loss terms in each epoch, as mean and range over seeds.

The curves of many variants would hide each other, so only the best variants and the winner's control are drawn.
"""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from kdmodels.evaluation.ranking import ACCURACY
from kdmodels.report.channels import Channel, colours, grid, number, tooltip, values
from kdmodels.report.components import Chart, Component, Section, Spec, Text
from kdmodels.report.contents import Contents
from kdmodels.report.curves import Point
from kdmodels.report.numbers import rounded

SHOWN = 8  # maximum number of variants in a chart; readers cannot distinguish more colours
TRAINING, TOTAL = "train/", "train/loss"  # prefix of the metric of a loss term, and the metric of the weighted sum
EARLY = 0.25  # accuracies in this first share of the epochs may be cut off
BANDS = "Lines are means over seeds, bands reach from the lowest to the highest seed."


def shown_variants(contents: Contents) -> list[str]:
    """Return the variants whose curves are drawn, best first: the best variants, and the winner's control."""
    names = [row.student.variant for row in contents.finished]
    best = contents.row(contents.winner)
    control = best.student.control if best else None
    shown = names[:SHOWN]
    if control in names and control not in shown:
        shown[-1] = str(control)
    return shown


def learning_section(contents: Contents) -> Section | None:
    """Return the section with the learning curves. `None` if no histories are recorded."""
    shown = [variant for variant in shown_variants(contents) if contents.curves.get(variant)]
    if not shown:
        return None
    components: list[Component] = []
    if len(shown) < len(contents.finished):
        most = f"{len(shown)} of {len(contents.finished)} variants"
        components.append(Text(f"Shown are {most}: the best ones, and the control of the winner."))
    if contents.folds > 1:
        components.append(Text(f"The curves are those of the first of {contents.folds} folds."))
    curves = {variant: contents.curves[variant] for variant in shown}
    components.append(_accuracy_chart(curves))
    components.append(_terms_chart(curves))
    return Section("learning", "Learning curves", components)


def _accuracy_chart(curves: Mapping[str, Mapping[str, Sequence[Point]]]) -> Chart:
    spec: Spec = {
        "width": 640,
        "height": 320,
        "data": values(_rows(curves, ACCURACY, factor=100)),
        "layer": _band_and_line("validation accuracy (%)", list(curves), lowest=100 * _lowest(curves)),
    }
    last = {variant: metrics[ACCURACY][-1].mean for variant, metrics in curves.items() if ACCURACY in metrics}
    ends = ", ".join(f"{variant} {100 * mean:.2f} %" for variant, mean in last.items())
    start = "The axis starts at the lowest accuracy after the first quarter of the epochs."
    description = f"{BANDS} {start} In the last epoch: {ends}."
    return Chart("learning-curves", "Validation accuracy over epochs", description, spec)


def _lowest(curves: Mapping[str, Mapping[str, Sequence[Point]]]) -> float:
    """Return the lowest accuracy after the first quarter of the epochs, from 0 to 1.

    The chart starts at this accuracy. Otherwise, the steep rise in the first epochs would fill most of the chart.
    """
    accuracies = [metrics[ACCURACY] for metrics in curves.values() if ACCURACY in metrics]
    late = [point.low for points in accuracies for point in points if point.epoch >= EARLY * points[-1].epoch]
    return min(late, default=0.0)


def _terms_chart(curves: Mapping[str, Mapping[str, Sequence[Point]]]) -> Chart:
    metrics = {metric: None for of_variant in curves.values() for metric in of_variant}
    terms = [metric for metric in metrics if metric.startswith(TRAINING) and metric != TOTAL]
    names = [term.removeprefix(TRAINING) for term in terms]
    panels: list[Channel] = [
        {
            "width": 230,
            "height": 150,
            "data": values(_rows(curves, term)),
            "layer": _band_and_line(title, list(curves)),
        }
        for term, title in zip(terms, names, strict=True)
    ]
    description = f"{BANDS} Each loss term has an axis of its own, because their units differ: {', '.join(names)}."
    return Chart("loss-terms", "Loss terms on the training images over epochs, unweighted", description, grid(panels))


def _rows(curves: Mapping[str, Mapping[str, Sequence[Point]]], metric: str, factor: float = 1.0) -> list[Channel]:
    """Return the points of a metric, multiplied by a factor, as the data of a chart."""
    return [
        {
            "variant": variant,
            "epoch": point.epoch,
            "mean": rounded(factor * point.mean),
            "low": rounded(factor * point.low),
            "high": rounded(factor * point.high),
        }
        for variant, metrics in curves.items()
        for point in metrics.get(metric, [])
    ]


def _band_and_line(title: str, variants: Sequence[str], lowest: float | None = None) -> list[JsonValue]:
    """Return the layers of a chart with a band and a line for each variant.

    Args:
        lowest: Start of the vertical axis. Parts of the curves below it are cut off. Default: the lowest value.
    """
    colour = colours("variant", "variant", variants)
    x = number("epoch", "epoch")
    return [
        {
            "mark": {"type": "area", "opacity": 0.15, "clip": True},
            "encoding": {"x": x, "y": number("low", title, lowest=lowest), "y2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "line", "strokeWidth": 2, "clip": True, "point": {"size": 60, "opacity": 0}},
            "encoding": {
                "x": x,
                "y": number("mean", title, lowest=lowest),
                "color": colour,
                "tooltip": tooltip("variant", "epoch", mean=".4~g", low=".4~g", high=".4~g"),
            },
        },
    ]
