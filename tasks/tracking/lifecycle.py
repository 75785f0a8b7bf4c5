"""A run's life: it starts, is told things, and ends with the truth. Every call names its run; none is "active"."""

import getpass
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils import mlflow_tags
from mlflow.utils.validation import (
    MAX_DATASET_DIGEST_SIZE,
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from kdmodels.errors import UserError, redacted
from tasks import interruption
from tasks.tracking import alive
from tasks.tracking.artifacts import sync_tree
from tasks.tracking.lookup import (
    ERROR,
    KEY,
    KIND,
    RESUMED,
    RESUMED_EPOCH,
    WARNING,
    Run,
    children,
    get,
    next_start,
    running,
)
from tasks.tracking.outages import is_mute, outage
from tasks.tracking.store import experiment_id

Ending = Literal["FINISHED", "FAILED", "KILLED"]
_ERROR_LENGTH = 5_000
_locks: dict[str, dict[str, str]] = {}  # by run id, of the runs that this process records
_told: dict[str, set[tuple[str, int]]] = {}  # by run id, the metrics and steps of a run that goes on


@contextmanager
def _whole_write() -> Iterator[None]:
    """Let Ctrl-C wait until a write to an SQLite file ends.

    Raised inside SQLAlchemy, an interruption may leave a transaction open, which locks the file for this process's own
    last words and for its workers.
    """
    if mlflow.get_tracking_uri().startswith("sqlite"):
        with interruption.deferred():
            yield
    else:
        yield


def start(
    experiment: str,
    name: str,
    kind: str,
    *,
    key: str | None = None,
    parent: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    continues: str | None = None,
) -> str:
    """Create a RUNNING run in the experiment of that name (made if need be) and return its id.

    Args:
        continues: an interrupted run of the same key, which is RUNNING again; `log_metrics` leaves out what it has.

    Params and tags are stored as text, cut at MLflow's lengths (6,000 and 8,000 characters) with an ellipsis.
    """
    client = MlflowClient()
    described = {
        mlflow_tags.MLFLOW_USER: _user(),
        mlflow_tags.MLFLOW_SOURCE_NAME: "kd",
        mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL",
        KIND: kind,
        **({KEY: key} if key else {}),
        **({mlflow_tags.MLFLOW_PARENT_RUN_ID: parent} if parent else {}),
        **(tags or {}),
    }
    lock = alive.hold()
    try:
        tags = described | lock
        run_id = _continue(continues, name, tags) if continues else _create(experiment, name, tags)
        _locks[run_id] = lock
        with _failing(run_id):
            entities = [Param(param, _cut(value, MAX_PARAM_VAL_LENGTH)) for param, value in (params or {}).items()]
            for batch in _batches(entities, MAX_PARAMS_TAGS_PER_BATCH):
                client.log_batch(run_id, params=batch)
    except BaseException:
        alive.release(lock)
        raise
    return run_id


@_whole_write()
def _create(experiment: str, name: str, tags: Mapping[str, Any]) -> str:
    told = {tag: _cut(value, MAX_TAG_VAL_LENGTH) for tag, value in tags.items()}
    id_, begun = experiment_id(experiment), next_start()
    return str(MlflowClient().create_run(id_, start_time=begun, run_name=name, tags=told).info.run_id)


@_whole_write()
def _continue(run_id: str, name: str, tags: Mapping[str, Any]) -> str:
    client = MlflowClient()
    before = client.get_run(run_id).data
    set_tags(run_id, {**tags, RESUMED: int(time.time() * 1000), RESUMED_EPOCH: int(before.metrics.get("epoch", 0))})
    client.update_run(run_id, status="RUNNING", name=name)
    for tag in {WARNING, ERROR} & before.tags.keys():
        client.delete_tag(run_id, tag)  # of what was before the interruption
    alive.forget(before.tags)
    _told[run_id] = {
        (metric, one.step) for metric in before.metrics for one in client.get_metric_history(run_id, metric)
    }
    return run_id


@contextmanager
def recording(run_id: str) -> Iterator[None]:
    """End the run as the block ends: FINISHED, FAILED with tag `kd.error`, or KILLED when it was stopped from outside.

    Stopped means any other BaseException: KeyboardInterrupt, SystemExit, a cancelled or terminated task. It also means
    an outage, of a disk for example, which is in `kd.error` too. Of an outage of the ledger itself nothing can be told:
    the run is left as that of a dead process is. What the block raised goes on. A run that somebody else ended
    meanwhile keeps the ending that it was given.
    """
    try:
        with _failing(run_id):
            yield
        _end_if_running(run_id, "FINISHED")
    finally:
        alive.release(_locks.pop(run_id, {}))
        _told.pop(run_id, None)


@contextmanager
def _failing(run_id: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_mute(error):
            out = outage(error)
            told = out or (error if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
            line = redacted(" ".join(str(told).split()))
            set_tags(run_id, {ERROR: _cut(line, _ERROR_LENGTH)})
            _end_if_running(run_id, "KILLED" if out or _hides_a_stop(error) else "FAILED")
        raise
    except BaseException:
        _end_if_running(run_id, "KILLED")
        raise


def _hides_a_stop(error: BaseException) -> bool:
    """Whether it was raised while a stop from outside was handled, as Prefect may where a task is about to begin."""
    before = error.__context__
    return before is not None and (not isinstance(before, Exception) or _hides_a_stop(before))


@_whole_write()
def end(run_id: str, status: Ending) -> None:
    """Give the run that ending, now."""
    MlflowClient().set_terminated(run_id, status)


def kill_running(parent: str) -> list[str]:
    """End every child of that run that is still RUNNING as KILLED, and return their ids; for after an interruption."""
    killed = [run for run in children(parent) if run.status == "RUNNING"]
    for run in killed:
        end(run.run_id, "KILLED")
        alive.forget(run.tags)
    return [run.run_id for run in killed]


def abandoned(experiment: str | None = None) -> list[Run]:
    """The RUNNING runs, of an experiment or of all, whose process, on this machine, is gone."""
    return [run for run in running(experiment) if alive.is_gone(run.tags)]


def end_abandoned(experiment: str | None = None) -> list[Run]:
    """End them as KILLED; they are returned."""
    ended = []
    for run in abandoned(experiment):
        now = get(run.run_id)  # since they were listed it may have ended, or another process may have gone on with it
        if now.status == "RUNNING" and alive.is_gone(now.tags):
            end(run.run_id, "KILLED")
            alive.forget(now.tags)
            ended.append(now)
    return ended


@_whole_write()
def set_tags(run_id: str, tags: Mapping[str, Any]) -> None:
    """Set or replace tags, in as few calls as MLflow allows."""
    entities = [RunTag(tag, _cut(value, MAX_TAG_VAL_LENGTH)) for tag, value in tags.items()]
    for batch in _batches(entities, MAX_PARAMS_TAGS_PER_BATCH):
        MlflowClient().log_batch(run_id, tags=batch)


@_whole_write()
def log_metrics(run_id: str, rows: Iterable[tuple[str, float, int] | tuple[str, float, int, float]]) -> None:
    """Log rows, 1,000 a call; of a run that goes on, those that it was not told before.

    MLflow keeps a NaN as a NaN, and an infinity as the largest float of its sign, which its charts show as infinite.

    Args:
        rows: name, value, step, and where that was not now, when it was measured, in seconds since 1970.
    """
    now, told = time.time(), _told.get(run_id, ())
    entities = [
        Metric(name, float(value), int(1000 * (at[0] if at else now)), step)
        for name, value, step, *at in rows
        if (name, step) not in told
    ]
    for batch in _batches(entities, MAX_METRICS_PER_BATCH):
        MlflowClient().log_batch(run_id, metrics=batch)


@_whole_write()
def log_dataset(
    run_id: str, *, name: str, digest: str, context: str, source: dict[str, Any], profile: dict[str, Any]
) -> None:
    """Record the data that the run read as an MLflow input, so that its UI shows it and filters by it.

    Args:
        digest: cut at MLflow's 36 characters; put the whole into `source` when it is longer.
        context: what it was read for: "training", "validation", "test".
    """
    dataset = Dataset(name, digest[:MAX_DATASET_DIGEST_SIZE], "kdflow", json.dumps(source), profile=json.dumps(profile))
    given = [DatasetInput(dataset, [InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, context)])]
    try:
        MlflowClient().log_inputs(run_id, given)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":  # by this name MLflow tells of a row that the database refuses
            raise
        # MLflow looks for the dataset and adds it where there is none; another process did between the two.
        MlflowClient().log_inputs(run_id, given)


def _end_if_running(run_id: str, status: Ending) -> None:
    info = MlflowClient().get_run(run_id).info
    if info.status == "RUNNING":
        if status == "FINISHED":
            sync_tree(info.artifact_uri)
        end(run_id, status)
    alive.forget(_locks.get(run_id, {}))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _cut(value: Any, length: int) -> str:
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def _batches(entities: list[Any], size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(entities), size):
        yield entities[begin : begin + size]
