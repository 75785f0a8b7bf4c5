"""The command `kd promote`. It promotes a student if the promotion gate accepts the student."""

from typing import Annotated

import typer

from flows.promote import promote
from kd import console, outcome
from kd.exit_codes import DONE, REFUSED, usage_errors
from kd.options import AllowCode, DataDir, Json, Run
from kd.prefect_flows import server_for_flows
from kdmodels.errors import UsageError
from tasks.promotion_candidates import find_candidate


def command(  # noqa: PLR0913 - one parameter per option
    run: Run = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the result of each rule. Promote nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Promote even if the gate refuses. Requires --reason.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Reason for a forced promotion. Stored with the model version.")
    ] = None,
    data_dir: DataDir = None,
    allow_code: AllowCode = None,
    as_json: Json = False,
) -> int:
    """Promote a winner or a run if the promotion gate accepts it.

    Without RUN, the winner of the last comparison is promoted.
    """
    if force != bool(reason and reason.strip()):
        expected = "expected both, with a text that is not blank, or neither. The text is stored with the model version"
        raise UsageError(f"--force and --reason TEXT: {expected}")
    with usage_errors():
        find_candidate(run)  # reports an unknown run before a server is started
    folder = str(data_dir) if data_dir else None
    with server_for_flows():
        verdict = promote(run, data_dir=folder, force=reason, dry_run=dry_run, code=allow_code or ())
    if as_json:
        console.print_json(verdict.model_dump())
    else:
        outcome.print_verdict(verdict)
    return DONE if verdict.accepted else REFUSED
