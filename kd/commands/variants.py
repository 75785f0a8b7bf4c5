"""The command `kd variants`. It lists the presets and their losses."""

from typing import Annotated

import typer

from kd import console
from kd.exit_codes import usage_errors
from kd.options import Json
from kdmodels.report import losses


def command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[VARIANT]...", help="Presets to list. Default: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the presets and their losses.

    Each loss is shown with its formula, inputs, defaults, weight and cost.
    """
    with usage_errors():
        rows, details = losses.variant_rows(names), losses.loss_rows(names)
    if as_json:
        console.print_json({"variants": rows, "losses": details})
        return
    console.print_table(rows, {"name": "variant", "terms": "losses", "paper": "paper"})
    console.print_text("", *losses.LEGEND, "")
    for row in details:
        console.print_fields({row.pop("name"): row})
