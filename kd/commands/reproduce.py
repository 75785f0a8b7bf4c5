"""The command `kd reproduce`. It tests the claims of one paper, or lists the available reproductions."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.reproduce import ReproduceOptions, reproduce
from kd import console
from kd.exit_codes import usage_errors
from kd.options import DataDir, Json
from kd.prefect_flows import server_for_flows
from kdmodels.errors import CancelledError, UsageError
from kdmodels.papers import REPRODUCTIONS, find_reproduction
from kdmodels.papers.claims import ReproductionResult
from kdmodels.report.papers import RULE, claim_rows, table_rows
from tasks.cancellation import RunCancelledError
from tasks.listings import ReproductionLine
from tasks.reproductions import latest_results

COLUMNS = {"claim": "claim", "published": "published", "range": "agrees if", "ours": "ours", "agreement": ""}


def complete_reproduction(incomplete: str) -> list[str]:
    """Return the reproductions whose name starts with `incomplete`."""
    return [name for name in REPRODUCTIONS if name.startswith(incomplete)]


def command(  # noqa: PLR0913 - one parameter per option
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The reproduction, e.g. notes-gradient. --list shows all.",
            autocompletion=complete_reproduction,
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List all with their cost and their last result.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Reduce the runs to a few seconds, as a test.")] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of seeds. Default: see --list; 1 with --quick.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder to which the result is also written, as NAME.json.")
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Test the claims of a paper: compare our values with the paper's.

    An interrupted reproduction continues with the same command. The result after each seed is kept.
    """
    if list_:
        _print_list(_lines(), as_json=as_json)
        return
    with usage_errors():
        if name is None:
            raise UsageError(f"which reproduction? Allowed: {', '.join(REPRODUCTIONS)}, or --list")
        find_reproduction(name)
    options = ReproduceOptions(
        seeds=seeds,
        quick=quick,
        data_dir=str(data_dir) if data_dir else None,
        output=str(output.absolute()) if output else None,
    )
    print(f"{name}: starting", file=sys.stderr)
    try:
        with contextlib.redirect_stdout(sys.stderr), server_for_flows():
            result = reproduce(name, options)
    except RunCancelledError as error:
        raise CancelledError(str(error)) from error
    if as_json:
        console.print_json(result.model_dump())
    else:
        _print_result(result)


def _print_result(result: ReproductionResult) -> None:
    console.print_table(claim_rows(result), COLUMNS)
    for table in result.tables:
        console.print_text("", f"{table.title} ({table.unit})")
        console.print_table(table_rows(table), {"row": "", "mean": "mean", "interval": "95 % interval"})
    console.print_text("")
    console.print_entry("result", f"{result.summary}{', in a reduced test run' if result.quick else ''}")
    console.print_entry("rule", RULE)
    console.print_entry("seconds", f"{result.seconds:.1f}")


def _lines() -> list[ReproductionLine]:
    latest = latest_results()
    return [
        ReproductionLine(
            name=name,
            title=reproduction.title,
            cost=reproduction.cost,
            seeds=reproduction.seeds,
            last_seeds=latest[name].seeds if name in latest else None,
            last_finished=latest[name].finished if name in latest else None,
            last_result=latest[name].summary if name in latest else None,
        )
        for name, reproduction in REPRODUCTIONS.items()
    ]


def _print_list(lines: Sequence[ReproductionLine], *, as_json: bool) -> None:
    if as_json:
        console.print_json(lines)
        return
    columns = {"name": "name", "title": "title", "seeds": "seeds", "cost": "cost", "last": "last result"}
    console.print_table(
        [
            {
                **line.model_dump(),
                "last": f"{line.last_result} ({line.last_seeds} seeds)" if line.last_result else "none",
            }
            for line in lines
        ],
        columns,
    )
