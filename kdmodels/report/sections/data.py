"""The section about the data: their source, splits, classes and digests, and notes on them."""

from kdmodels.experiment.data import REST
from kdmodels.report.components import Cell, Column, Component, Section, Table, Text
from kdmodels.report.contents import Contents

SPLITS = {"train": "training", REST: "unlabelled"}  # titles of splits that are not shown under their own names
MOST_CLASSES = 30  # maximum number of class names that are listed


def data_section(contents: Contents) -> Section | None:
    """Return the section about the data. `None` if nothing is recorded about the data."""
    data = contents.data
    if data is None:
        return None
    titles = SPLITS | ({"train": "labelled training"} if REST in data.examples else {})
    more = f", and {len(data.classes) - MOST_CLASSES} more" if len(data.classes) > MOST_CLASSES else ""
    facts = {
        "source": data.source,
        **{f"{titles.get(split, split)} images": f"{count:,}" for split, count in data.examples.items()},
        "classes": f"{len(data.classes)}: {', '.join(data.classes[:MOST_CLASSES])}{more}" if data.classes else "",
        **data.digests,
    }
    rows = [[Cell(fact, mark=True), Cell(value)] for fact, value in facts.items() if value]
    components: list[Component] = [Table("Facts about the data", [Column("fact"), Column("value")], rows)]
    return Section("data", "Data", [*components, *(Text(note, role="note") for note in data.notes)])
