"""A table in LaTeX."""

from kdmodels.report.components import Cell, Column, Table
from kdmodels.report.latex import escaped, to_latex
from kdmodels.report.report import latex
from tests.support.reports import contents


def test_chosen_columns_with_contents_are_written() -> None:
    columns = [Column("variant"), Column("%", numeric=True), Column("p", numeric=True), Column("group", numeric=True)]
    table = Table("caption", columns, [[Cell("kd_1"), Cell("95.00 ± 1.00"), Cell(""), Cell("1")]])
    assert to_latex(table, ["variant", "%", "p"], "A & B") == (
        "\\begin{table}\n"
        "  \\centering\n"
        "  \\caption{A \\& B}\n"
        "  \\begin{tabular}{lr}\n"
        "    \\toprule\n"
        "    variant & \\% \\\\\n"
        "    \\midrule\n"
        "    kd\\_1 & 95.00 $\\pm$ 1.00 \\\\\n"
        "    \\bottomrule\n"
        "  \\end{tabular}\n"
        "\\end{table}\n"
    )


def test_a_name_cannot_contain_a_command() -> None:
    assert escaped("\\input{/etc/passwd}\n%") == "\\textbackslash{}input\\{/etc/passwd\\} \\%"


def test_the_leaderboard_has_a_row_for_each_student() -> None:
    text = latex(contents())
    assert "    kd & 95.00 $\\pm$ 2.65 & +3.00 (0.52 to 5.48) & " in text
    assert "    broken & failed &" in text
    assert "The teacher has 98.00 \\%." in text
