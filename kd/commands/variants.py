"""The command `kd variants`. It lists presets or the variants of experiment files, and their losses."""

from typing import Annotated

import typer

from flows.experiments import load_experiment
from kd import console
from kd.exit_codes import usage_errors
from kd.options import Json
from kdmodels.report import losses


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VARIANT|FILE]...", help="Presets, or experiment files (.yaml). Default: all presets."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List presets or the variants of a file, and their losses.

    Each loss is shown with its formula, inputs, defaults, weight and cost. A loss of your own is shown with the first
    line of its docstring, and its code is not run.
    """
    files = [name for name in names or () if name.endswith((".yaml", ".yml"))]
    presets = [name for name in names or () if name not in files]
    with usage_errors():
        tables = [losses.rows_of_experiment(load_experiment(file)) for file in files]
        if presets or not files:
            tables.insert(0, (losses.variant_rows(presets), losses.loss_rows(presets)))
    rows = [row for variants, _ in tables for row in variants]
    details = list({row["name"]: row for _, of_losses in tables for row in of_losses}.values())
    if as_json:
        console.print_json({"variants": rows, "losses": details})
        return
    console.print_table(rows, {"name": "variant", "terms": "losses", "paper": "paper"})
    console.print_text("", *losses.LEGEND, "")
    for row in details:
        console.print_fields({row.pop("name"): row})
