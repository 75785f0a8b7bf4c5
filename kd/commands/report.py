"""The command `kd report`. It writes the report of a comparison as a file."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from kd import console
from kd.exit_codes import usage_errors
from kd.options import RUN_HELP
from kdmodels.errors import UsageError, UserError
from kdmodels.files.atomic import SHARED, write_whole
from kdmodels.files.folders import cache_folder, private_folder
from kdmodels.report import report
from kdmodels.text import escaped
from tasks import tracking
from tasks.report_contents import find_comparison, read_contents


def command(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help=f"{RUN_HELP} Default: the last comparison.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write. Default: in the cache.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print verdict and leaderboard as Markdown.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the leaderboard as a LaTeX table.")] = False,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each chart to this folder as SVG and PNG.")
    ] = None,
) -> None:
    """Write the report of a comparison as one HTML file."""
    kinds = [
        option
        for option, chosen in {
            "--markdown": markdown,
            "--latex": latex,
            "--figures": figures is not None,
            "--open or --output": open_ or output is not None,
        }.items()
        if chosen
    ]
    if len(kinds) > 1:
        raise UsageError(f"{', '.join(kinds)}: expected at most one of these options")
    tracking.configure()
    with usage_errors():
        comparison = find_comparison(run)
    contents = read_contents(comparison)
    if markdown:
        print(escaped(report.markdown(contents), keep="\n"), end="")
    elif latex:
        print(escaped(report.latex(contents), keep="\n"), end="")
    elif figures:
        for name, content in report.figures(contents).items():
            _write(figures / name, content, "--figures")
        console.print_entry("figures", str(figures.absolute()))
    else:
        file = output or _file_in_cache(comparison.run_id)
        _write(file, report.html(contents).encode(), "--output")
        if contents.verdict:
            console.print_entry("verdict", contents.verdict.reason, style="bold")
        console.print_entry("report", str(file.absolute()))
        if open_ and not webbrowser.open(file.absolute().as_uri()):
            raise UserError(f"--open: no browser was found. Open the file yourself: {file.absolute()}")


def _file_in_cache(run_id: str) -> Path:
    folder = cache_folder() / "reports"
    try:
        return private_folder(folder) / f"{run_id}.html"
    except OSError as error:
        raise UserError(f"the folder {folder} can't be used: {error}. Allowed: --output FILE") from error


def _write(file: Path, content: bytes, option: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, lambda partial: partial.write_bytes(content), mode=SHARED)
    except OSError as error:
        raise UserError(f"{option}: {file}: {error.strerror}") from error
