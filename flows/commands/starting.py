"""What one begins with: `kd doctor`, `kd init`, `kd variants`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.shared import DONE, ERROR, Json, usage


def doctor(as_json: Json = False) -> int:
    """Check what kdflow needs on this machine."""
    from flows import console
    from flows.doctor import checks

    rows = checks()
    if as_json:
        console.print_json(rows)
    else:
        console.print_table(rows, {"name": "check", "ok": "ok", "detail": "found", "remedy": "remedy"})
    return ERROR if any(row["ok"] is False for row in rows) else DONE


def init(file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Write a commented experiment file to edit."""
    from flows.experiments import write_template

    with usage():
        write_template(file)
    print(f"wrote {file}; run it with: kd run {file}", file=sys.stderr)


def variants(
    names: Annotated[list[str] | None, typer.Argument(metavar="[VARIANT]...")] = None, as_json: Json = False
) -> None:
    """List the ready-made variants, and every loss in them with its formula, inputs, defaults, weight and cost."""
    from flows import console
    from kdmodels.report import losses

    with usage():
        rows, details = losses.variant_rows(names), losses.loss_rows(names)
    if as_json:
        console.print_json({"variants": rows, "losses": details})
        return
    console.print_table(rows, {"name": "variant", "terms": "losses", "paper": "paper"})
    console.print_text("", *losses.LEGEND, "")
    for row in details:
        console.print_fields({row.pop("name"): row})
