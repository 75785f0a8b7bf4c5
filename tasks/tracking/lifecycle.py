"""Functions that start a run, record its metrics and tags, and end the run with a status.

All functions identify a run by its id. MLflow's active run is not used.
"""

import getpass
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

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
from kdmodels.run_status import RunStatus
from tasks.execution import interruption
from tasks.tracking import alive
from tasks.tracking.artifacts import sync_tree
from tasks.tracking.lookup import Run, children, get, next_start, running
from tasks.tracking.outages import is_mute, outage
from tasks.tracking.store import experiment_id
from tasks.tracking.tags import Tag

Ending = Literal[RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED]
Entity = TypeVar("Entity", Param, RunTag, Metric)
_ERROR_LENGTH = 5_000


@dataclass
class _Recording:
    """The state that this process keeps while it records a run.

    Attributes:
        lock: Lock of the run.
        logged: The (metric, step) pairs that were logged before the run was resumed.
        held: The metrics that `metrics_together` has not sent yet. None outside a block of `metrics_together`.
    """

    lock: alive.RunLock
    logged: set[tuple[str, int]] = field(default_factory=set)
    held: list[Metric] | None = None


# The recordings of this process, by run id. A lock must be held from `start` to the end of `recording`, but tasks pass
# only the run's id to each other.
_recordings: dict[str, _Recording] = {}


@contextmanager
def _whole_write() -> Iterator[None]:
    """Delay Ctrl-C until a write to a SQLite file is complete.

    An interruption inside SQLAlchemy may leave a transaction open. The open transaction would lock the file. Then this
    process could not write its last entries, and its workers could not write at all.
    """
    if mlflow.get_tracking_uri().startswith("sqlite"):
        with interruption.deferred():
            yield
    else:
        yield


def start(  # noqa: PLR0913 - each argument is one column of the run in MLflow
    experiment: str,
    name: str,
    kind: str,
    *,
    key: str | None = None,
    parent: str | None = None,
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
    continues: str | None = None,
) -> str:
    """Create a RUNNING run and return its id. If the experiment does not exist, create it.

    Params and tags are stored as text. If the text is longer than MLflow allows (6,000 characters for a param, 8,000
    for a tag), the text is truncated and ends with an ellipsis.

    Args:
        experiment: Name of the experiment.
        name: Name of the run.
        kind: Kind of the run, one of `lookup.KINDS`.
        key: Digest of everything that determines the result of the run.
        parent: Id of the parent run.
        params: Params of the run, by name.
        tags: Tags of the run, by name.
        continues: Id of an interrupted run with the same key. If an id is given, the interrupted run is resumed and
            no run is created. `log_metrics` then leaves out the (metric, step) pairs that the run already has.
    """
    attributes: dict[str, object] = {
        mlflow_tags.MLFLOW_USER: user(),
        mlflow_tags.MLFLOW_SOURCE_NAME: "kd",
        mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL",
        Tag.KIND: kind,
        **({Tag.KEY: key} if key else {}),
        **({mlflow_tags.MLFLOW_PARENT_RUN_ID: parent} if parent else {}),
        **(tags or {}),
    }
    recording = _Recording(alive.RunLock())
    try:
        attributes |= recording.lock.tag
        if continues:
            run_id = continues
            recording.logged = _continue(run_id, name, attributes)
        else:
            run_id = _create(experiment, name, attributes)
        _recordings[run_id] = recording
        with _failing(run_id):
            log_params(run_id, params or {})
    except BaseException:
        recording.lock.release()
        raise
    return run_id


@_whole_write()
def _create(experiment: str, name: str, tags: Mapping[str, object]) -> str:
    texts = {str(tag): cut(value, MAX_TAG_VAL_LENGTH) for tag, value in tags.items()}
    id_, start_time = experiment_id(experiment), next_start()
    return str(MlflowClient().create_run(id_, start_time=start_time, run_name=name, tags=texts).info.run_id)


@_whole_write()
def _continue(run_id: str, name: str, tags: Mapping[str, object]) -> set[tuple[str, int]]:
    """Set an interrupted run to RUNNING, and return the (metric, step) pairs that the run already has."""
    client = MlflowClient()
    before = client.get_run(run_id).data
    epoch = int(before.metrics.get("epoch", 0))
    set_tags(run_id, {**tags, Tag.RESUMED: int(time.time() * 1000), Tag.RESUMED_EPOCH: epoch})
    client.update_run(run_id, status=RunStatus.RUNNING.value, name=name)
    for tag in {Tag.WARNING, Tag.ERROR} & before.tags.keys():
        client.delete_tag(run_id, tag)  # these tags describe the time before the interruption
    alive.forget(before.tags)
    return {(metric, value.step) for metric in before.metrics for value in client.get_metric_history(run_id, metric)}


@contextmanager
def recording(run_id: str) -> Iterator[None]:
    """Set the status of a run when the `with` block ends. If the block raised an error, raise the error again.

    - FINISHED: The block raised no error.
    - KILLED: The block was stopped by KeyboardInterrupt, SystemExit, the cancellation of a task, or an outage, for
      example a full disk. The tag `kd.error` describes an outage.
    - FAILED: The block raised any other error. The tag `kd.error` describes the error.

    If the tracking store does not answer, the run remains RUNNING, like the run of a dead process. If another process
    has ended the run before the block ends, the status from that process is kept.
    """
    try:
        with _failing(run_id):
            yield
        _end_if_running(run_id, RunStatus.FINISHED)
    finally:
        if held := _recordings.pop(run_id, None):
            held.lock.release()


@contextmanager
def _failing(run_id: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_mute(error):
            failure = outage(error)
            message = failure or (error if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
            line = redacted(" ".join(str(message).split()))
            set_tags(run_id, {Tag.ERROR: cut(line, _ERROR_LENGTH)})
            _end_if_running(run_id, RunStatus.KILLED if failure or _hides_a_stop(error) else RunStatus.FAILED)
        raise
    except BaseException:
        _end_if_running(run_id, RunStatus.KILLED)
        raise


def _hides_a_stop(error: BaseException) -> bool:
    """Return whether an error was raised while Python handled KeyboardInterrupt or another request to stop.

    Prefect may raise this kind of error when a task begins.
    """
    before = error.__context__
    return before is not None and (not isinstance(before, Exception) or _hides_a_stop(before))


@_whole_write()
def end(run_id: str, status: Ending) -> None:
    """End a run now with the given status."""
    MlflowClient().set_terminated(run_id, str(status))


def kill_running(parent: str) -> list[str]:
    """Set every RUNNING child run of an interrupted run to KILLED, and return the ids of the child runs."""
    killed = [run for run in children(parent) if run.status == RunStatus.RUNNING]
    for run in killed:
        end(run.run_id, RunStatus.KILLED)
        alive.forget(run.tags)
    return [run.run_id for run in killed]


def abandoned(experiment: str | None = None) -> list[Run]:
    """Return the RUNNING runs whose process was on this machine and no longer exists.

    Args:
        experiment: Name of the experiment. Default: all experiments.
    """
    return [run for run in running(experiment) if alive.is_dead(run.tags)]


def end_abandoned(experiment: str | None = None) -> list[Run]:
    """Set the abandoned runs to KILLED, and return these runs.

    A run is abandoned if its process was on this machine and no longer exists.

    Args:
        experiment: Name of the experiment. Default: all experiments.
    """
    ended = []
    for run in abandoned(experiment):
        now = get(run.run_id)  # since the search, the run may have ended or another process may have resumed it
        if now.status == RunStatus.RUNNING and alive.is_dead(now.tags):
            end(run.run_id, RunStatus.KILLED)
            alive.forget(now.tags)
            ended.append(now)
    return ended


@_whole_write()
def set_tags(run_id: str, tags: Mapping[str, object]) -> None:
    """Set or replace tags of a run, in as few requests as MLflow allows."""
    entities = [RunTag(str(tag), cut(value, MAX_TAG_VAL_LENGTH)) for tag, value in tags.items()]
    for batch in _batches(entities, MAX_PARAMS_TAGS_PER_BATCH):
        MlflowClient().log_batch(run_id, tags=batch)


def describe(run_id: str, markdown: str) -> None:
    """Set the description of a run, which the MLflow UI shows as Markdown. Truncate it to 8,000 characters."""
    set_tags(run_id, {mlflow_tags.MLFLOW_RUN_NOTE: markdown})


@_whole_write()
def describe_experiment(run_id: str, markdown: str, *, replaces: str) -> None:
    """Set the description of a run's experiment, unless somebody else wrote its current description.

    Args:
        run_id: Id of a run of the experiment.
        markdown: The description.
        replaces: Text that marks a description as written by kdflow. Only descriptions with this text are replaced.
    """
    client = MlflowClient()
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    if replaces in experiment.tags.get(mlflow_tags.MLFLOW_RUN_NOTE, replaces):
        client.set_experiment_tag(experiment.experiment_id, mlflow_tags.MLFLOW_RUN_NOTE, markdown)


@_whole_write()
def log_params(run_id: str, params: Mapping[str, object]) -> None:
    """Log params. A value cannot be changed later. Logging an equal value again has no effect."""
    entities = [Param(param, cut(value, MAX_PARAM_VAL_LENGTH)) for param, value in params.items()]
    for batch in _batches(entities, MAX_PARAMS_TAGS_PER_BATCH):
        MlflowClient().log_batch(run_id, params=batch)


def log_metrics(run_id: str, rows: Iterable[tuple[str, float, int] | tuple[str, float, int, float]]) -> None:
    """Log metrics of a run, 1,000 values per request.

    If the run was resumed, leave out the (metric, step) pairs from before the interruption.

    MLflow stores NaN as NaN. MLflow stores an infinite value as the largest float of the same sign. MLflow's charts
    show this float as infinite.

    Args:
        run_id: Id of the run.
        rows: Tuples (name, value, step) or (name, value, step, time). `time` is the time of the measurement in seconds
            since 1970. Default: the current time.
    """
    now, recorded = time.time(), _recordings.get(run_id)
    logged = recorded.logged if recorded else set()
    entities = [
        Metric(name, float(value), int(1000 * (at[0] if at else now)), step)
        for name, value, step, *at in rows
        if (name, step) not in logged
    ]
    if recorded and recorded.held is not None:
        recorded.held += entities
    else:
        _send_metrics(run_id, entities)


@contextmanager
def metrics_together(run_id: str) -> Iterator[None]:
    """Collect the metrics that the `with` block logs, and send them in one request when the block ends.

    This saves time, because a request to a server with a login is slow. If this process does not record the run, the
    metrics are sent at once.
    """
    recorded = _recordings.get(run_id)
    if recorded is None or recorded.held is not None:
        yield
        return
    held = recorded.held = []
    try:
        yield
    finally:
        recorded.held = None
        _send_metrics(run_id, held)


@_whole_write()
def _send_metrics(run_id: str, entities: Sequence[Metric]) -> None:
    for batch in _batches(entities, MAX_METRICS_PER_BATCH):
        MlflowClient().log_batch(run_id, metrics=batch)


@_whole_write()
def log_dataset(
    run_id: str, *, name: str, digest: str, context: str, source: Mapping[str, object], profile: Mapping[str, object]
) -> None:
    """Record a dataset as an MLflow input of the run that read the dataset.

    The MLflow UI shows inputs, and can filter runs by input.

    Args:
        run_id: Id of the run.
        name: Name of the dataset.
        digest: Digest of the data. Only the first 36 characters are stored, because MLflow allows no more. If the
            digest is longer, put the whole digest into `source`.
        context: Purpose of the data: "training", "validation" or "test".
        source: Origin of the data, which is stored as JSON.
        profile: Description of the data, which is stored as JSON.
    """
    dataset = Dataset(name, digest[:MAX_DATASET_DIGEST_SIZE], "kdflow", json.dumps(source), profile=json.dumps(profile))
    inputs = [DatasetInput(dataset, [InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, context)])]
    try:
        MlflowClient().log_inputs(run_id, inputs)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":  # this code means that the database refused a row
            raise
        # MLflow searches for the dataset and adds it if the search fails. Between these two steps, another process has
        # added the same dataset. The second search finds the dataset.
        MlflowClient().log_inputs(run_id, inputs)


def _end_if_running(run_id: str, status: Ending) -> None:
    info = MlflowClient().get_run(run_id).info
    if info.status == RunStatus.RUNNING:
        if status == RunStatus.FINISHED:
            sync_tree(info.artifact_uri)
        end(run_id, status)
    if run_id in _recordings:
        alive.forget(_recordings[run_id].lock.tag)


def user() -> str:
    """Return the name of the user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user may have no name
        return "unknown"


def cut(value: object, length: int) -> str:
    """Return a value as text. If the text is too long, truncate it and end it with an ellipsis."""
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def _batches(entities: Sequence[Entity], size: int) -> Iterator[Sequence[Entity]]:
    for begin in range(0, len(entities), size):
        yield entities[begin : begin + size]
