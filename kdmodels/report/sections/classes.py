"""The section about the classes: the accuracy on each class, and the confusion matrices."""

from collections.abc import Sequence

import numpy as np

from kdmodels.report import formats
from kdmodels.report.channels import Channel, colours, grid, name, number, tooltip, values
from kdmodels.report.components import Cell, Chart, Column, Component, Section, Spec, Table, Text
from kdmodels.report.contents import Contents
from kdmodels.report.numbers import points
from kdmodels.report.predictions import NetworkSummary, Predictions, matrix

MOST_CLASSES = 30  # maximum number of classes in a chart
MOST_NUMBERS = 12  # maximum number of classes of a confusion matrix whose cells show numbers
MOST_CONFUSIONS = 10  # maximum number of rows of the table of confusions


def classes_section(contents: Contents) -> Section | None:
    """Return the section about the classes. `None` if no predictions are recorded."""
    predictions = contents.predictions
    if predictions is None:
        return None
    matrices = {label(each): matrix(each, predictions.classes) for each in predictions.networks}
    chosen = _telling_classes(list(matrices.values()))
    components: list[Component] = [
        Text(
            f"This section shows the stored networks on {predictions.examples:,} validation images. The stored network "
            "of a variant is that of its best seed, so its accuracy can be above the mean over seeds."
        )
    ]
    if contents.folds > 1:
        components.append(Text(f"The networks and images are those of the first of {contents.folds} folds."))
    if len(chosen) < len(predictions.classes):
        components.append(Text(f"Shown are the {len(chosen)} classes on which the networks differ most."))
    components.append(_accuracies(matrices, predictions.classes, chosen))
    if len(predictions.classes) <= MOST_CLASSES:
        components.append(_matrices(matrices, predictions.classes))
    components.append(_confusions(matrices, predictions))
    return Section("classes", "Classes and confusions", components)


def label(network: NetworkSummary) -> str:
    """Return the name of a network with its role."""
    return network.name if network.name == network.role else f"{network.name} ({network.role})"


def class_accuracies(counts: np.ndarray) -> np.ndarray:
    """Return the accuracy on each class, (K,), from a confusion matrix, (K, K). A class without examples gets NaN."""
    with np.errstate(invalid="ignore"):
        accuracies: np.ndarray = counts.diagonal() / counts.sum(axis=1)
    return accuracies


def _telling_classes(matrices: Sequence[np.ndarray]) -> list[int]:
    """Return the sorted indices of the classes to show: those on which the networks' accuracies differ most."""
    accuracies = np.stack([class_accuracies(counts) for counts in matrices])  # (networks, K)
    known = np.flatnonzero(~np.isnan(accuracies).any(axis=0))
    ranges = np.ptp(accuracies[:, known], axis=0)
    return sorted(int(index) for index in known[np.argsort(-ranges, kind="stable")[:MOST_CLASSES]])


def _accuracies(matrices: dict[str, np.ndarray], classes: Sequence[str], chosen: Sequence[int]) -> Chart:
    rows: list[Channel] = []
    for network, counts in matrices.items():
        accuracies = class_accuracies(counts)
        rows += [
            {
                "network": network,
                "class": classes[index],
                "accuracy": points(float(accuracies[index])),
                "examples": int(counts[index].sum()),
            }
            for index in chosen
        ]
    colour = colours("network", "network", list(matrices))
    spec: Spec = {
        "width": 560,
        "height": {"step": 30},
        "data": values(rows),
        "mark": {"type": "point", "filled": True, "size": 80, "opacity": 0.85},
        "encoding": {
            "x": number("accuracy", "accuracy on the class (%)"),
            "y": name("class", order=[classes[index] for index in chosen]),
            "yOffset": name("network", order=list(matrices)),  # otherwise, equal points would hide each other
            "color": colour,
            "shape": colour,
            "tooltip": tooltip("network", "class", "examples", accuracy=".2f"),
        },
    }
    weakest = []
    for network_name, counts in matrices.items():
        accuracies = class_accuracies(counts)
        index = int(np.nanargmin(accuracies))
        weakest.append(f"{network_name}: {classes[index]}, {formats.percent(float(accuracies[index]))}")
    return Chart("class-accuracies", "Accuracy on each class", f"The weakest class of {'; '.join(weakest)}.", spec)


def _matrices(matrices: dict[str, np.ndarray], classes: Sequence[str]) -> Chart:
    panels = [
        _panel(f"{network}: {formats.percent(counts.trace() / counts.sum())}", counts, classes, first=not index)
        for index, (network, counts) in enumerate(matrices.items())
    ]
    description = (
        "One matrix for each network. A row is a true class, a column a predicted class. The colour is the share of "
        "the row. Correct predictions are on the diagonal. The table below lists the most frequent confusions."
    )
    return Chart("confusion-matrices", "Confusion matrices", description, grid(panels, columns=len(panels)))


def _panel(title: str, counts: np.ndarray, classes: Sequence[str], *, first: bool) -> Channel:
    totals = counts.sum(axis=1)
    rows: list[Channel] = [
        {
            "true": classes[i],
            "predicted": classes[j],
            "examples": int(counts[i, j]),
            "share": points(counts[i, j] / totals[i]),
        }
        for i, j in np.argwhere(counts)
    ]
    cells: Channel = {
        "mark": "rect",
        "encoding": {
            "color": {
                "field": "share",
                "type": "quantitative",
                "title": "% of the class",
                "scale": {"type": "sqrt", "domain": [0, 100], "range": ["#8080801a", "#0072B2"]},
            },
        },
    }
    numbers: Channel = {
        "mark": {"type": "text", "fontSize": 10},
        "encoding": {
            "text": {"field": "examples", "type": "quantitative"},
            "color": {"condition": {"test": "datum.share > 25", "value": "white"}},
        },
    }
    size = min(20, 400 // len(classes))
    domain: Channel = {"scale": {"domain": list(classes)}}
    return {
        "title": title,
        "width": {"step": size},
        "height": {"step": size},
        "data": values(rows),
        "encoding": {
            "x": name("predicted", "predicted class") | domain,
            "y": name("true", "true class" if first else None) | domain,
            "tooltip": tooltip("true", "predicted", "examples", share=".1f"),  # also shown for the numbers
        },
        "layer": [cells, numbers] if len(classes) <= MOST_NUMBERS else [cells],
    }


def _confusions(matrices: dict[str, np.ndarray], predictions: Predictions) -> Table:
    """Return a table of the student's most frequent confusions, with each network's count of the same confusions."""
    counts = next(iter(matrices.values())).copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(index), len(counts)) for index in order if counts.flat[index]]
    classes = predictions.classes
    rows = [
        [
            Cell(classes[true], classes[true]),
            Cell(classes[seen], classes[seen]),
            *(Cell(str(each[true, seen]), int(each[true, seen])) for each in matrices.values()),
        ]
        for true, seen in pairs
    ]
    columns = [Column("true class"), Column("predicted class"), *(Column(each, numeric=True) for each in matrices)]
    caption = f"The most frequent confusions of {next(iter(matrices))}, in numbers of images"
    return Table(caption, columns, rows, sortable=True)
