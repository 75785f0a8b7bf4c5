"""Sections of a report as Markdown, for a pull request, the MLflow UI and the Prefect UI."""

from collections.abc import Iterable, Sequence
from html import escape

from kdmodels.report.components import Section, Table, Text


def to_markdown(sections: Iterable[Section], *, most_rows: int = 1_000) -> str:
    """Return the texts and tables of sections as GitHub's Markdown. Other components are left out.

    Args:
        most_rows: The maximum number of rows of a table. Further rows are left out.
    """
    blocks = []
    for section in sections:
        blocks.append(f"## {plain(section.title)}")
        for component in section.components:
            if isinstance(component, Text):
                blocks.append(f"**{plain(component.text)}**" if component.role == "verdict" else plain(component.text))
            elif isinstance(component, Table):
                blocks.append("\n".join(_table(component, most_rows)))
    return "\n\n".join(blocks) + "\n"


def _table(table: Table, most_rows: int) -> Sequence[str]:
    cells = [[cell.text for cell in row] for row in table.rows]
    return table_lines([column.title for column in table.columns], cells, most_rows=most_rows)


def table_lines(titles: Sequence[str], rows: Sequence[Sequence[str]], *, most_rows: int) -> list[str]:
    """Return the lines of a Markdown table.

    Args:
        titles: The titles of the columns.
        rows: The texts of the cells. All texts are escaped.
        most_rows: The maximum number of rows. Further rows are left out.
    """
    lines = [_line(titles), _line(["---"] * len(titles))]
    lines += [_line(map(plain, row)) for row in rows[:most_rows]]
    if len(rows) > most_rows:
        lines.append(f"\n{len(rows) - most_rows} more rows are in MLflow.")
    return lines


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Escape the special characters of Markdown in a text.

    >>> plain("a|b <script> *c*")
    'a\\\\|b &lt;script&gt; \\\\*c\\\\*'
    """
    shown = escape(" ".join(text.split()), quote=False)
    for character in "\\|*_`[]":
        shown = shown.replace(character, f"\\{character}")
    return shown
