"""Functions that print results on stdout, as JSON, tables, labelled lines or nested fields.

All other output of `kd`, such as progress, goes to stderr.
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdmodels.text import escaped

LABEL = 10  # width of an entry's label, in characters
NAME = 26  # width of a field's name, in characters
UNLIMITED = 10_000  # width in characters, wider than any table. By default, rich caps the width at the terminal's
WIDE = 200  # width of the output if stdout or stderr is not a terminal, in characters


class _EscapingConsole(Console):
    """A console that escapes control characters. Names from stores and files may contain control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text as rich does, with control characters escaped.

        rich calls this method for every printed object that is not a `Text`.
        """
        return super().render_str(escaped(text), **options)


def console(*, stderr: bool = False) -> Console:
    """Return a console for stdout or stderr. Colours are used only on a terminal, and never if NO_COLOR is set."""
    stream = sys.stderr if stderr else sys.stdout
    return _EscapingConsole(stderr=stderr, width=None if stream.isatty() else WIDE, highlight=False, markup=False)


def print_json(document: object) -> None:
    """Print one JSON document on stdout. NaN and infinite numbers become null."""
    print(to_json(document, indent=2, inf_nan_mode="null").decode())


def new_table() -> Table:
    """Return an empty table with bold column titles and without borders."""
    return Table(box=None, pad_edge=False, header_style="bold")


def print_table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], optional: Sequence[str] = ()) -> None:
    """Print rows as a table.

    Args:
        rows: One mapping per row, from the key of a column to the value of the cell.
        columns: Mapping from the key of each column to the column's title. If a row has other keys, their values
            are not printed.
        optional: Keys of columns that are left out, from the first on, until the table fits into the terminal.
    """

    def table_without(left_out: Collection[str]) -> Table:
        table = new_table()
        shown = {key: title for key, title in columns.items() if key not in left_out}
        for title in shown.values():
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*[cell(row.get(key)) for key in shown])
        return table

    console().print(fitting(table_without, optional))


def fitting(table_without: Callable[[Collection[str]], Table], optional: Sequence[str]) -> Table:
    """Return a table that fits into the terminal. If columns that must stay are too wide, their cells are folded.

    Args:
        table_without: A function that returns the table without some of the optional columns.
        optional: The optional columns. They are left out in this order.
    """
    out = console()
    unlimited = out.options.update(max_width=UNLIMITED)
    for number in range(len(optional)):
        table = table_without(optional[:number])
        if out.measure(table, options=unlimited).maximum <= out.width:
            return table
    return table_without(optional)


def print_text(*lines: str) -> None:
    """Print lines without wrapping them."""
    console().print(*lines, sep="\n", soft_wrap=True)


def print_entry(label: str, text: str, style: str = "") -> None:
    """Print a label and a text.

    If stdout is a terminal, the text is wrapped at words and indented. Otherwise, the label and the text are on one
    line.
    """
    out = console()
    if not out.is_terminal:
        out.print(f"{label:<{LABEL}}{text}", style=style, soft_wrap=True)
        return
    grid = Table.grid()
    grid.add_column(width=LABEL)
    grid.add_column(overflow="fold")
    grid.add_row(label, text, style=style)
    out.print(grid)


def print_fields(fields: Mapping[str, object], indent: str = "") -> None:
    """Print nested mappings as indented lines, and lists of mappings as tables. Empty values are left out."""
    out = console()
    for name, value in fields.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, Mapping):
            out.print(f"{indent}{name}")
            print_fields(value, indent + "  ")
        elif isinstance(value, list) and isinstance(value[0], Mapping):
            out.print(f"{indent}{name}")
            print_table(value, {key: key for key in value[0]})
        else:
            out.print(f"{indent}{f'{name}  ':<{NAME - len(indent)}}{cell(value)}", soft_wrap=True)


def cell(value: object) -> str:
    """Format a value for a cell of a table.

    >>> cell(None), cell(True), cell([0.5, "kd"])
    ('', 'yes', '0.5000, kd')
    >>> cell(40084.0), cell(0.8950000000000001), cell(0.00000237), cell(-0.0), cell(1337.819)
    ('40084', '0.8950', '2.37e-06', '0', '1337.8190')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    if not isinstance(value, float):
        return str(value)
    if value.is_integer():
        return f"{value:z.0f}"
    return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.3g}"


def local_time(time: datetime | str | None) -> str | None:
    """Format a time in the time zone of this machine, e.g. 2026-12-01 09:30. A text is in ISO 8601 format."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return f"{time.astimezone():%Y-%m-%d %H:%M}" if time else None
