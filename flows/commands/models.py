"""What is done with trained students: `kd promote`, `kd rollback`, `kd predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.shared import DONE, REFUSED, DataDir, Json, Run, usage


def promote(run: Run = None, data_dir: DataDir = None, as_json: Json = False) -> int:
    """Send the last comparison's winner, or a run, through the gate."""
    from flows import console
    from flows import promote as gate

    with usage():
        gate.find(run)
    verdict = gate.promote(run, data_dir=str(data_dir) if data_dir else None)
    if as_json:
        console.print_json(verdict.model_dump())
    else:
        console.print_verdict(verdict)
    return DONE if verdict.promoted or verdict.already_champion else REFUSED


def rollback(model: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """Make a model's previous champion the champion again."""
    from flows import promote as gate
    from tasks import tracking

    tracking.configure()
    with usage():
        version = gate.rollback(model)
    print(f"{version.model}: version {version.version} is the champion again ({version.uri})")


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="name, name@alias, name/3 or a models:/ URI.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", exists=True, help="Images, or folders of them.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A CSV file; else stdout.")] = None,
) -> None:
    """Classify images by a registered model."""
    from flows import predict as predictor
    from tasks import tracking

    tracking.configure()
    with usage():
        tracking.find_model(model)
    rows = predictor.predict(model, paths)
    predictor.write_csv(rows, out)
    if out:
        print(f"wrote {len(rows)} rows to {out}", file=sys.stderr)
