"""The command `kd list`. It lists runs or experiments."""

from typing import Annotated

import typer

from flows.experiments import shipped
from kd import console
from kd.options import Json
from tasks import queries


def command(
    experiments: Annotated[bool, typer.Option("--experiments", help="List the experiments instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of runs.")] = 30,
    as_json: Json = False,
) -> None:
    """List the runs, newest first."""
    lines = queries.list_experiments(shipped()) if experiments else queries.list_runs(limit)
    if as_json:
        console.print_json(lines)
    elif lines:
        rows = [line.model_dump(by_alias=True, exclude={"parent"}) for line in lines]
        short = [row | {"run_id": row["run_id"][:8]} if "run_id" in row else row for row in rows]
        console.print_table(short, {key: key for key in rows[0]})
    else:
        print("no runs yet. Start with: kd run digits")
