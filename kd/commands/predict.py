"""The command `kd predict`. It classifies images with a registered model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from kd.exit_codes import usage_errors
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
) -> None:
    """Classify images with a registered model."""
    tracking.configure()
    with usage_errors():
        tracking.find_model(model)
    rows = predict.predict(model, paths)
    predict.write_csv(predict.as_submission(rows) if submission else rows, out)
    if out:
        print(escaped(f"wrote {len(rows)} rows to {out}"), file=sys.stderr)
