"""The command `kd bundle`. It writes a comparison to one file for another store, or reads such a file."""

from pathlib import Path
from typing import Annotated

import typer

from kd import console
from kd.exit_codes import usage_errors
from kd.options import RUN_HELP
from kdmodels.errors import UsageError
from tasks import bundle


def command(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|FILE]", help=f"{RUN_HELP} Default: the last comparison. With --import: the file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="New zip file. Default: named after the run.")
    ] = None,
    import_: Annotated[bool, typer.Option("--import", help="Store the runs of a bundle in this store.")] = False,
) -> None:
    """Write a comparison to one file for a colleague, or import it.

    The zip file has the report, the experiment file, the weights, the ONNX models, the metrics and checksums.
    """
    if not import_:
        with usage_errors():
            file = bundle.write_bundle(run, out)
        console.print_entry("bundle", f"{file.absolute()}, {file.stat().st_size / 1e6:.1f} MB")
        return
    if run is None or out is not None:
        raise UsageError("--import: expected one file, as in kd bundle --import run.zip")
    comparison = bundle.import_bundle(Path(run))
    console.print_entry("imported", f"{comparison.experiment}, run {comparison.run_id}")
    console.print_entry("next", f"kd report {comparison.run_id[:8]} --open, kd compare {comparison.run_id[:8]}")
