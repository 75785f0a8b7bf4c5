"""A function that creates runs with the content of runs that another tracking store recorded."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.utils import mlflow_tags

from kdmodels.errors import UserError
from tasks.tracking.alive import RunLock, forget
from tasks.tracking.deletion import delete_run
from tasks.tracking.lifecycle import log_metrics, log_params, set_tags, user
from tasks.tracking.lookup import Run, experiment_names, search
from tasks.tracking.store import experiment_id
from tasks.tracking.tags import Tag

_RUN_ID = re.compile("[0-9a-f]{32}")


@contextmanager
def imported_runs(runs: Sequence[Run]) -> Iterator[dict[str, str]]:
    """Create runs with the params, tags and last metrics of recorded runs, and provide the new id of each run.

    While the `with` block stores the artifacts, the runs are RUNNING. Then they get the recorded status and end. If the
    block raises an error, the runs are deleted.

    Args:
        runs: Ended runs. The first run becomes the parent of the others. Run ids in the tags are replaced by new ids.

    Raises:
        UserError: The first run has been imported before, or this store recorded it.
    """
    _require_new(runs[0])
    lock, new_ids, now = RunLock(), dict[str, str](), int(time.time() * 1000)
    try:
        for run in runs:
            # The lock lets other processes find the runs of a killed import.
            tags = {
                mlflow_tags.MLFLOW_USER: user(),
                mlflow_tags.MLFLOW_SOURCE_NAME: "kd",
                mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL",
                Tag.KIND: str(run.kind),
                **({mlflow_tags.MLFLOW_PARENT_RUN_ID: new_ids[runs[0].run_id]} if new_ids else {}),
                **lock.tag,
            }
            created = MlflowClient().create_run(
                experiment_id(run.experiment), start_time=run.start, run_name=run.name, tags=tags
            )
            new_ids[run.run_id] = str(created.info.run_id)
        for run in runs:
            _fill(new_ids[run.run_id], run, new_ids)
        yield new_ids
        for run in reversed(runs):  # the parent last, because it marks the import as complete
            set_tags(new_ids[run.run_id], {Tag.IMPORTED: now, Tag.IMPORTED_FROM: run.run_id})
            MlflowClient().set_terminated(new_ids[run.run_id], str(run.status), run.end)
    except BaseException:
        for run_id in reversed(new_ids.values()):
            delete_run(run_id)
        raise
    finally:
        lock.release()
        forget(lock.tag)


def with_new_ids(text: str, new_ids: Mapping[str, str]) -> str:
    """Replace each run id in a text by its new id.

    >>> with_new_ids(f"runs:/{'a' * 32}/x, {'b' * 32}", {"a" * 32: "c" * 32})
    'runs:/cccccccccccccccccccccccccccccccc/x, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'
    """
    return _RUN_ID.sub(lambda match: new_ids.get(match[0], match[0]), text)


def _require_new(run: Run) -> None:
    names = experiment_names()
    for condition in (f"attributes.run_id = '{run.run_id}'", f"tags.`{Tag.IMPORTED_FROM}` = '{run.run_id}'"):
        existing = next(search(names, condition, 1), None)
        if existing is not None:
            raise UserError(f"run {run.run_id!r} is already in this store, as {existing.name} ({existing.run_id})")


def _fill(run_id: str, run: Run, new_ids: Mapping[str, str]) -> None:
    tags = {tag: with_new_ids(text, new_ids) for tag, text in run.tags.items()}
    set_tags(run_id, tags | ({Tag.KEY: run.key} if run.key else {}))
    log_params(run_id, run.params)
    log_metrics(run_id, [(name, value, 0, (run.end or run.start) / 1000) for name, value in run.metrics.items()])
