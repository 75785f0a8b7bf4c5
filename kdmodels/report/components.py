"""The components of a report: texts, tables, charts, picture cards and code, arranged in sections.

Components hold plain text and numbers. `page.py` writes them as HTML and escapes every text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from pydantic import JsonValue

Spec: TypeAlias = Mapping[str, JsonValue]
"""A chart in the grammar of Vega-Lite, https://vega.github.io/vega-lite/docs/."""


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    kind: ClassVar = "text"
    text: str
    role: Literal["", "verdict", "note"] = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: The text that the reader sees.
        order: The value by which the rows of a sortable table are sorted. Cells without this value come last.
        mark: Whether the cell is emphasised.
    """

    text: str
    order: float | str | None = None
    mark: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, whether it holds numbers, and an explanation of the title."""

    title: str
    numeric: bool = False
    help: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What the table shows.
        rows: One sequence of cells per row, in the order of the columns.
        sortable: Whether the reader can sort the table by a column.
    """

    kind: ClassVar = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: A name that is unique in the report and valid in a file name, e.g. `learning-curves`.
        title: The title, which says what the axes show.
        description: A text that replaces the chart for readers who cannot see it.
        spec: The chart in Vega-Lite, without its title and its text colours. Names from stores and files are allowed
            only as values of the data and as titles, because Vega runs texts in some other places as expressions.
    """

    kind: ClassVar = "chart"
    name: str
    title: str
    description: str
    spec: Spec


@dataclass(frozen=True)
class Bar:
    """A bar that shows a share.

    Attributes:
        label: The name of the item whose share is shown, for example a class.
        share: The share, from 0 to 1.
        text: The share as text.
    """

    label: str
    share: float
    text: str


@dataclass(frozen=True)
class Card:
    """A picture with groups of bars.

    Attributes:
        picture: A PNG file, base64-encoded.
        alternative: A text that replaces the picture for readers who cannot see it.
        title: The title of the card.
        bars: Groups of bars, by the title of the group.
    """

    picture: str
    alternative: str
    title: str
    bars: Mapping[str, Sequence[Bar]]


@dataclass(frozen=True)
class Cards:
    """A row of cards."""

    kind: ClassVar = "cards"
    cards: Sequence[Card]


@dataclass(frozen=True)
class Code:
    """A block of code, for example a file or a command.

    Attributes:
        folded: Whether the reader must open the block to see it.
    """

    kind: ClassVar = "code"
    title: str
    text: str
    folded: bool = False


@dataclass(frozen=True)
class Legend:
    """Explanations of terms, which the reader must open to see."""

    kind: ClassVar = "legend"
    title: str
    entries: Mapping[str, str]


Component: TypeAlias = Text | Table | Chart | Cards | Code | Legend


@dataclass(frozen=True)
class Section:
    """A section of a report. Its name is unique in the report and is the anchor of links to the section."""

    name: str
    title: str
    components: Sequence[Component]
