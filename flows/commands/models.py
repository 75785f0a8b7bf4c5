"""What is done with trained students: `kd promote`, `kd rollback`, `kd predict`, `kd export`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.shared import DONE, REFUSED, AllowCode, DataDir, Json, Run, UsageError, usage
from kdmodels.text import escaped


def promote(
    run: Run = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the gate says of each rule.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, kept with the version.")] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
    as_json: Json = False,
) -> int:
    """Send the last comparison's winner, or a run, through the gate."""
    if force != bool(reason and reason.strip()):
        raise UsageError("--force and --reason TEXT: allowed is both or none; the text is kept with the version")
    from flows import console
    from flows import promote as gate

    with usage():
        gate.find(run)
    folder = str(data_dir) if data_dir else None
    verdict = gate.promote(run, data_dir=folder, force=reason, dry_run=dry_run, code=allow_code or ())
    if as_json:
        console.print_json(verdict.model_dump())
    else:
        console.print_verdict(verdict)
    return DONE if verdict.accepted else REFUSED


def rollback(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    to: Annotated[int | None, typer.Option(min=1, metavar="VERSION", help="This one; else the previous.")] = None,
) -> None:
    """Make a model's previous champion the champion again."""
    from flows import promote as gate
    from tasks import tracking

    tracking.configure()
    with usage():
        version = gate.rollback(model, to)
    print(escaped(f"{version.model}: version {version.version} is the champion again ({version.uri})"))


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="name, name@alias, name/3 or a models:/ URI.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", exists=True, help="Images, or folders of them.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A CSV file; else stdout.")] = None,
    submission: Annotated[
        bool, typer.Option("--submission", help="Id,Category: the file's name without its suffix, the class's index.")
    ] = False,
) -> None:
    """Classify images by a registered model."""
    from flows import predict as predictor
    from tasks import tracking

    tracking.configure()
    with usage():
        tracking.find_model(model)
    rows = predictor.predict(model, paths)
    predictor.write_csv(predictor.as_submission(rows) if submission else rows, out)
    if out:
        print(escaped(f"wrote {len(rows)} rows to {out}"), file=sys.stderr)


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="name, name@alias, name/3, or a RUN.")],
    pt2: Annotated[bool, typer.Option("--pt2", help="A torch program.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="ONNX in 8-bit integers, for onnxruntime.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A new file; else of the model's name.")] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
    as_json: Json = False,
) -> None:
    """Write a model as a file for another runtime, checked against the original."""
    kinds = [kind for kind, chosen in {"pt2": pt2, "onnx": onnx, "int8": int8}.items() if chosen]
    if len(kinds) != 1:
        raise UsageError("which format? allowed is one of: --pt2, --onnx, --int8")
    from flows import console
    from flows import export as exporter

    with usage():
        run, name = exporter.find(model)
        file = exporter.new_file(out, name, kinds[0])
    with contextlib.redirect_stdout(sys.stderr):  # torch's exporters print
        folder = str(data_dir) if data_dir else None
        report = exporter.export(run, kinds[0], file, data_dir=folder, code=allow_code or ())
    console.print_json(report) if as_json else console.print_export(report)
