"""The command `kd export`. It writes a model as a file for another runtime."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from kd import console
from kd.exit_codes import usage_errors
from kd.options import AllowCode, DataDir, Json
from kdmodels.errors import UsageError
from kdmodels.report.formats import amount, percent
from tasks import export_model


def command(  # noqa: PLR0913 - one parameter per option
    model: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="Registered model (name, name@alias or name/3), or a run.")
    ],
    pt2: Annotated[bool, typer.Option("--pt2", help="Write a torch program.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Write ONNX in 8-bit integers, for onnxruntime.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="New file. Default: named after the model.")] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
    as_json: Json = False,
) -> None:
    """Write a model as a file for another runtime.

    The exported model is compared with the original on validation images.
    """
    kinds = [kind for kind, chosen in {"pt2": pt2, "onnx": onnx, "int8": int8}.items() if chosen]
    if len(kinds) != 1:
        raise UsageError("expected one format. Allowed: --pt2, --onnx, --int8")
    with usage_errors():
        run, name = export_model.find(model)
        file = export_model.new_file(out, name, kinds[0])
    with contextlib.redirect_stdout(sys.stderr):  # torch's exporters print messages
        folder = str(data_dir) if data_dir else None
        report = export_model.export(run, kinds[0], file, data_dir=folder, code=allow_code or ())
    if as_json:
        console.print_json(report)
    else:
        _print_report(report)


def _print_report(report: export_model.ExportReport) -> None:
    """Print the file, its size, and the agreement of the exported model with the original."""
    out = console.console()
    out.print(f"wrote {report.file}, {amount(report.exported_file_mb)} MB", soft_wrap=True)
    out.print(f"the stored weights have {amount(report.file_mb)} MB")
    out.print(
        f"on {report.examples} validation examples: accuracy {percent(report.accuracy)}, "
        f"exported {percent(report.exported_accuracy)}",
        soft_wrap=True,
    )
    out.print(
        f"same class for {percent(report.agreement)}, largest difference of a logit {report.largest_difference:.3g}",
        soft_wrap=True,
    )
