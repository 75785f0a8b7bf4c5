"""What one begins with: `kd doctor`, `kd init`, `kd variants`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.shared import DONE, ERROR, Json, usage
from kdmodels.text import escaped


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="End runs whose process is gone, delete their orphans.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what --fix would do, and do nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Check what kdflow needs on this machine, and mend what dead processes have left."""
    from flows import console
    from flows.doctor import checks

    if fix or dry_run:
        from flows.mend import mend

        for line in mend(dry_run=dry_run) or ["nothing to mend"]:
            print(escaped(line), file=sys.stderr)
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
    print(escaped(f"wrote {file}; run it with: kd run {file}"), file=sys.stderr)


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
