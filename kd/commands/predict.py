"""The command `kd predict`. It classifies images with a registered model."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from kd import console
from kd.exit_codes import usage_errors
from kdmodels.errors import UsageError
from kdmodels.text import escaped
from tasks import predict, tracking


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Registered model: name, name@alias, name/3 or a models:/ URI.")
    ],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", exists=True, help="Images, or folders with images.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV file to write. Default: stdout.")] = None,
    submission: Annotated[
        bool,
        typer.Option("--submission", help="Write columns Id (file name without suffix) and Category (class index)."),
    ] = False,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="Write the K most probable classes of each image.")] = 1,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out files that can't be read as images.")] = False,
) -> None:
    """Classify images with a registered model.

    Each row of the output has an image file, a class, the index of the class and its probability.
    """
    if submission and top > 1:
        raise UsageError("--submission, --top: a submission has one class for each image")
    tracking.configure()
    with usage_errors():
        tracking.find_model(model)
    with progress_bar() as report:
        predictions = predict.predict(model, paths, top=top, skip=skip, report=report)
    rows = predictions.rows
    predict.write_csv(predict.as_submission(rows) if submission else rows, out)
    for file, error in predictions.skipped.items():
        print(escaped(f"skipped {file}: {error}"), file=sys.stderr)
    if out:
        print(escaped(f"wrote {len(rows)} rows to {out}"), file=sys.stderr)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr while the `with` block runs, if stderr is a terminal.

    Yields:
        A function of the number of finished images and the number of all images.
    """
    err = console.console(stderr=True)
    with Progress(*Progress.get_default_columns(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
