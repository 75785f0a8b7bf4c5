"""Sections as Markdown."""

from kdmodels.report.components import Cell, Chart, Column, Section, Table, Text
from kdmodels.report.markdown import table_lines, to_markdown


def test_texts_and_tables_are_written_and_escaped() -> None:
    table = Table("caption", [Column("variant"), Column("%")], [[Cell("a|b"), Cell("96.1")]])
    section = Section("s", "Results", [Text("kd *wins*", role="verdict"), Chart("c", "t", "d", {}), table, Text("<b>")])
    assert to_markdown([section]) == (
        "## Results\n\n**kd \\*wins\\***\n\n| variant | % |\n| --- | --- |\n| a\\|b | 96.1 |\n\n&lt;b&gt;\n"
    )


def test_a_long_table_is_cut() -> None:
    lines = table_lines(["n"], [[str(number)] for number in range(5)], most_rows=2)
    assert lines == ["| n |", "| --- |", "| 0 |", "| 1 |", "\n3 more rows are in MLflow."]
