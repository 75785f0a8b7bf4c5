"""A table of a report in LaTeX, for a paper. The paper must load the package booktabs."""

from collections.abc import Sequence

from kdmodels.report.components import Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
}


def to_latex(table: Table, titles: Sequence[str], caption: str) -> str:
    """Convert selected columns of a table to LaTeX. Columns whose cells are all empty are left out.

    Args:
        table: The table.
        titles: The titles of the columns to write, in their order in the table.
        caption: The caption.
    """
    chosen = [
        index
        for index, column in enumerate(table.columns)
        if column.title in titles and any(row[index].text for row in table.rows)
    ]
    alignment = "".join("r" if table.columns[index].numeric else "l" for index in chosen)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \begin{{tabular}}{{{alignment}}}",
        r"    \toprule",
        _line([table.columns[index].title for index in chosen]),
        r"    \midrule",
        *(_line([row[index].text for index in chosen]) for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Escape the special characters of LaTeX in a text.

    >>> print(escaped("50 % of a_b ± <x>"))
    50 \\% of a\\_b $\\pm$ \\textless{}x\\textgreater{}
    """
    return "".join(_ESCAPES.get(character, character) for character in " ".join(text.split()))


def _line(cells: Sequence[str]) -> str:
    return f"    {' & '.join(map(escaped, cells))} \\\\"
