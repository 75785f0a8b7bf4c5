"""Functions that delete chosen runs, and everything that depends on them, for `kd delete`."""

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict

from kdmodels.errors import UserError
from tasks import results, tracking
from tasks.cleanup.needs import dependents
from tasks.cleanup.runs import locked_runs, order


class DeletedRun(BaseModel):
    """A run of a `Deletion`.

    Attributes:
        bytes: Size of the run's files in bytes.
        needs: Name of a deleted run without which this run would be incomplete. `None` if the user chose the run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    name: str
    kind: str | None
    experiment: str
    bytes: int
    needs: str | None


class DeletedVersion(BaseModel):
    """A version of a registered model in a `Deletion`. Its run or its comparison is one of the deleted runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: int
    aliases: list[str]


class Deletion(BaseModel):
    """Runs and model versions that are deleted together.

    Attributes:
        runs: The runs in the order of their deletion. A run comes before the runs that it refers to.
        bytes: Total size in bytes of the runs' files.
        for_good: Whether the store deletes runs permanently. If not, the runs are only marked as deleted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: list[DeletedRun]
    versions: list[DeletedVersion]
    bytes: int
    for_good: bool


def chosen_runs(run: str | None, experiment: str | None) -> list[str]:
    """Return the ids of the run that the user named, or of all runs of an experiment.

    Raises:
        UserError: The run or the experiment does not exist, the experiment has no runs, or kdflow did not make the run.
    """
    tracking.configure()
    tracking.end_abandoned()
    if run is not None:
        found = tracking.find(run)
        if found.kind is None:
            raise UserError(f"run {found.name} ({found.run_id}) was not made by kdflow")
        return [found.run_id]
    run_ids = [each.run_id for each in tracking.runs(experiment, limit=results.ALL)]
    if not run_ids:
        raise UserError(f"experiment {experiment!r} has no runs")
    return run_ids


def plan_deletion(run_ids: Collection[str]) -> Deletion:
    """Return what `delete` would delete, without deleting anything.

    Args:
        run_ids: Ids of the chosen runs.

    Raises:
        UserError: One of the runs has not ended.
    """
    with locked_runs() as runs:
        return _plan(run_ids, runs)


def delete(run_ids: Collection[str], planned: Deletion) -> None:
    """Delete the chosen runs, the runs that depend on them, and the versions of registered models that need them.

    Model versions are deleted first. If the deletion is interrupted, a second call or `kd gc` completes the deletion.

    Args:
        run_ids: Ids of the chosen runs.
        planned: The result of `plan_deletion`, which the user has confirmed.

    Raises:
        UserError: Another command has since added something that depends on the runs.
        UnavailableError: A file can't be deleted, or the server does not allow this user to delete a run.
    """
    with locked_runs() as runs:
        if _plan(run_ids, runs) != planned:
            raise UserError("another command has changed what depends on these runs; run kd delete again")
        for version in tracking.versions_of({run.run_id for run in planned.runs}):
            tracking.delete_version(version)
        for run in planned.runs:
            tracking.delete_run(run.run_id)


def _plan(run_ids: Collection[str], runs: list[tracking.Run]) -> Deletion:
    by_id = {run.run_id: run for run in runs}
    reasons = dependents(runs, run_ids)
    deleted = sorted((by_id[run_id] for run_id in {*run_ids, *reasons}), key=lambda run: (order(run), run.run_id))
    for run in deleted:
        if run.end is None:
            raise UserError(f"run {run.name} ({run.run_id}) has not ended; `kd cancel` stops it")
    rows = [
        DeletedRun(
            run_id=run.run_id,
            name=run.name,
            kind=run.kind,
            experiment=run.experiment,
            bytes=tracking.run_bytes(run.run_id),
            needs=by_id[reasons[run.run_id]].name if run.run_id in reasons else None,
        )
        for run in deleted
    ]
    return Deletion(
        runs=rows,
        versions=[
            DeletedVersion(model=version.model, version=version.version, aliases=list(version.aliases))
            for version in tracking.versions_of({run.run_id for run in deleted})
        ],
        bytes=sum(row.bytes for row in rows),
        for_good=tracking.deletes_for_good(),
    )
