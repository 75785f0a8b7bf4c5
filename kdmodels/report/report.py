"""The report of a comparison: the page, Markdown, a LaTeX table, and pictures of the charts."""

from collections.abc import Iterator, Mapping

from kdmodels.report.components import Chart, Section
from kdmodels.report.contents import Contents
from kdmodels.report.formats import percent
from kdmodels.report.latex import to_latex
from kdmodels.report.markdown import plain, to_markdown
from kdmodels.report.page import to_html
from kdmodels.report.sections.calibration import calibration_section
from kdmodels.report.sections.classes import classes_section
from kdmodels.report.sections.costs import costs_section
from kdmodels.report.sections.data import data_section
from kdmodels.report.sections.disagreement import disagreement_section
from kdmodels.report.sections.learning import learning_section
from kdmodels.report.sections.reproduce import reproduce_section
from kdmodels.report.sections.sensitivity import sensitivity_section
from kdmodels.report.sections.standings import standings_section, standings_table
from kdmodels.report.sections.verdict import verdict_section
from kdmodels.report.sections.work import work_section
from kdmodels.report.vega import FileKind, to_file

PAPER = ("variant", "validation %", "vs control", "p (Holm)", "gap closed", "parameters", "MFLOPs")  # LaTeX columns
IMAGES = ("accuracies", "pareto", "learning-curves", "confusion-matrices")  # charts that are stored with a run
SUMMARY = "Verdict of the comparison of "  # kdflow overwrites only descriptions with these words
ROWS_OF_DESCRIPTION = 15  # maximum number of rows of a table in a run's description; MLflow allows 8,000 characters


def sections(contents: Contents) -> list[Section]:
    """Return the sections of the report, in the order of the page. Sections without contents are left out."""
    possible = [
        verdict_section(contents),
        standings_section(contents),
        costs_section(contents),
        learning_section(contents),
        classes_section(contents),
        calibration_section(contents),
        disagreement_section(contents),
        sensitivity_section(contents),
        work_section(contents),
        data_section(contents),
        reproduce_section(contents),
    ]
    return [section for section in possible if section is not None]


def html(contents: Contents) -> str:
    """Return the report as one HTML file that needs no network."""
    return to_html(f"{contents.experiment}: which student is best?", sections(contents))


def markdown(contents: Contents, *, most_rows: int = 1_000) -> str:
    """Return the verdict and the leaderboard as Markdown.

    Args:
        most_rows: The maximum number of rows of a table. Further rows are left out.
    """
    return to_markdown([verdict_section(contents), standings_section(contents)], most_rows=most_rows)


def latex(contents: Contents) -> str:
    """Return the leaderboard as a LaTeX table."""
    teacher = f" The teacher has {percent(contents.teacher.accuracy)}." if contents.teacher else ""
    caption = (
        f"Validation accuracy of the students of {contents.experiment}, mean and standard deviation over seeds; "
        f"difference to the label-only control with 95 % interval.{teacher}"
    )
    return to_latex(standings_table(contents), PAPER, caption)


def figures(contents: Contents) -> dict[str, bytes]:
    """Return each chart of the report as an SVG and a PNG file, by the name of the file."""
    kinds: tuple[FileKind, ...] = ("svg", "png")
    return {f"{chart.name}.{kind}": to_file(chart, kind) for chart in _charts(contents) for kind in kinds}


def images(contents: Contents) -> dict[str, bytes]:
    """Return the charts `IMAGES` as SVG files, by the name of the file. Charts without contents are left out.

    Drawing an SVG file takes half as long as drawing a PNG file.
    """
    return {f"{chart.name}.svg": to_file(chart, "svg") for chart in _charts(contents) if chart.name in IMAGES}


def description(contents: Contents, links: Mapping[str, str]) -> str:
    """Return the description of a comparison's run in the MLflow UI: verdict, links and leaderboard.

    The verdict comes first, because the UI shows only the first lines until the reader expands the description.

    Args:
        links: The addresses of related pages, by the text of the link.
    """
    verdict, standings = (
        to_markdown([section], most_rows=ROWS_OF_DESCRIPTION)
        for section in (verdict_section(contents), standings_section(contents))
    )
    return f"{verdict}\n{_linked(links)}\n\n{standings}"


def summary(contents: Contents, links: Mapping[str, str]) -> str:
    """Return the description of an experiment in the MLflow UI: the verdict of one comparison, and links.

    Args:
        links: The addresses of related pages, by the text of the link.
    """
    reason = contents.verdict.reason if contents.verdict else "The comparison ended before the promotion gate decided."
    return f"**{plain(reason)}**\n\n{SUMMARY}{contents.started[:10]}: {_linked(links)}"


def _linked(links: Mapping[str, str]) -> str:
    return " | ".join(f"[{text}]({address})" for text, address in links.items())


def _charts(contents: Contents) -> Iterator[Chart]:
    for section in sections(contents):
        yield from (component for component in section.components if isinstance(component, Chart))
