"""Functions that search for runs, for example by id, name or parent."""

import functools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from kdmodels.errors import UserError, allowed
from kdmodels.evaluation.ranking import ACCURACY
from kdmodels.run_status import RunStatus
from tasks.tracking.tags import Tag

PARENTS = ("comparison", "generation")  # kinds of the parent runs; teachers, students etc. are their child runs
KINDS = (*PARENTS, "teacher", "student", "tuning", "generator", "reproduction")
MANY_KEYS = 100  # from here on, one query per key takes longer than reading the runs in pages
PAGE = 1_000
ORDERS = {  # field by which runs can be sorted -> order of an MLflow search. MLflow cannot sort by duration
    "started": "attributes.start_time DESC",
    "accuracy": f"metrics.`{ACCURACY}` DESC",
    "seconds": "attributes.start_time DESC",
    "name": "attributes.run_name ASC",
}


@dataclass(frozen=True)
class Run:
    """A run that is recorded in MLflow.

    Attributes:
        created: Time of the creation, in ms since 1970.
        start: Time of the start, in ms since 1970. For a resumed run, the time when the run was last resumed.
        end: Time of the end, in ms since 1970. If the run has not ended, the value is None.
        key: Digest of everything that determines the result of the run.
        parent: Id of the parent run.
        metrics: Last value of each metric, by name.
    """

    run_id: str
    name: str
    experiment: str
    kind: str | None
    status: RunStatus
    created: int
    start: int
    end: int | None
    key: str | None
    parent: str | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class RunFilter:
    """The conditions that a run must meet. A condition that is None holds for each run.

    Attributes:
        experiment: Name of the experiment.
        kind: Kind of the run, one of `KINDS`.
        status: Status of the run, one of `RunStatus`.
        since: Earliest time of the start, in ms since 1970. A resumed run counts from its first start.
    """

    experiment: str | None = None
    kind: str | None = None
    status: str | None = None
    since: int | None = None


def get(run_id: str) -> Run:
    """Return the run with this id.

    Raises:
        UserError: No run has this id, or the run was deleted.
    """
    run = _entity(run_id)
    if run is None:
        raise UserError(f"run {run_id!r} is not in the tracking store")
    return _read(run, {run.info.experiment_id: _experiment_name(mlflow.get_tracking_uri(), run.info.experiment_id)})


@functools.cache  # otherwise, each call of `get` sends a second request to a server
def _experiment_name(store: str, experiment_id: str) -> str:
    return str(MlflowClient(store).get_experiment(experiment_id).name)


def runs(experiment: str | None = None, kind: str | None = None, limit: int = 100) -> list[Run]:
    """Return the latest runs of kdflow, newest first.

    Args:
        experiment: Name of the experiment. Default: all experiments.
        kind: Kind of the runs, one of `KINDS`. Default: all kinds.
        limit: Maximum number of runs.

    Raises:
        UserError: The experiment or the kind does not exist.
    """
    return select(RunFilter(experiment, kind), limit)


def select(chosen: RunFilter, limit: int, sort: str = "started") -> list[Run]:
    """Return the first runs of kdflow that meet all conditions of a filter.

    Args:
        limit: Maximum number of runs.
        sort: Field by which the runs are sorted, one of `ORDERS`. The newest, most accurate or longest run comes first,
            and names are in alphabetical order. Runs without a value come last.

    Raises:
        UserError: The experiment, the kind, the status or the field does not exist.
    """
    names = experiment_names()
    for field, value, choices in (
        ("kind", chosen.kind, KINDS),
        ("status", chosen.status, list(RunStatus)),
        ("field", sort, ORDERS),
    ):
        if value is not None and value not in choices:
            raise UserError(f"{field} {value!r} does not exist. {allowed(value, choices)}")
    if chosen.experiment is not None:
        if chosen.experiment not in names.values():
            raise UserError(
                f"experiment {chosen.experiment!r} is not in the tracking store. "
                f"{allowed(chosen.experiment, names.values())}"
            )
        names = {id_: name for id_, name in names.items() if name == chosen.experiment}
    conditions = [f"tags.`{Tag.KIND}` = '{chosen.kind}'" if chosen.kind else f"tags.`{Tag.KIND}` LIKE '%'"]
    if chosen.status is not None:
        conditions.append(f"attributes.status = '{chosen.status}'")
    if chosen.since is not None:
        conditions.append(f"attributes.start_time >= {chosen.since}")
    is_by_seconds = sort == "seconds"
    found = list(search(names, " AND ".join(conditions), None if is_by_seconds else limit, order=ORDERS[sort]))
    return sorted(found, key=_negative_duration)[:limit] if is_by_seconds else found


def _negative_duration(run: Run) -> float:
    return math.inf if run.end is None else run.start - run.end


def is_new(experiment: str) -> bool:
    """Return whether an experiment is new. An experiment is new until its first run is recorded."""
    return experiment not in experiment_names().values()


def next_start() -> int:
    """Return the start time of a run that begins now, in ms since 1970.

    The start time is later than the start time of every other run, even if the clock has been set back. Otherwise the
    newest run could not be found by its start time. For example, a promotion needs the newest comparison.
    """
    newest = next(search(experiment_names(), f"tags.`{Tag.KIND}` LIKE '%'", 1), None)
    now = int(time.time() * 1000)
    return max(now, newest.created + 1) if newest else now


def finished(kind: str, keys: Iterable[str]) -> dict[str, Run]:
    """Return a mapping from each key to the newest FINISHED run. Keys without a FINISHED run are left out.

    The key of a run is a digest of everything that determines the result of the run. Each key needs its own query,
    because MLflow's filters have no OR. If there are many keys, all FINISHED runs of this kind are read instead.
    """
    names, missing = experiment_names(), set(keys)
    condition = f"attributes.status = '{RunStatus.FINISHED}' AND tags.`{Tag.KIND}` = '{kind}'"
    if len(missing) <= MANY_KEYS:
        newest = {key: next(search(names, f"{condition} AND tags.`{Tag.KEY}` = '{key}'", 1), None) for key in missing}
        return {key: run for key, run in newest.items() if run is not None}
    found: dict[str, Run] = {}
    for run in search(names, condition, None):
        if run.key in missing:
            missing.remove(run.key)
            found[run.key] = run
        if not missing:
            break
    return found


def claimed(claim: str, experiment: str | None = None) -> Run | None:
    """Return the newest run with this claim. If no run has the claim, return None.

    Args:
        claim: Random id that connects a run with its folder of checkpoints. The id consists of letters and digits.
        experiment: Name of the experiment. Default: all experiments.
    """
    names = {id_: name for id_, name in experiment_names().items() if experiment in (None, name)}
    return next(search(names, f"tags.`{Tag.CLAIM}` = '{claim}'", 1), None) if names else None


def checkpointed(kind: str, key: str) -> list[Run]:
    """Return the runs with this key that store a checkpoint, newest first."""
    names = experiment_names()
    condition = f"tags.`{Tag.KIND}` = '{kind}' AND tags.`{Tag.KEY}` = '{key}' AND tags.`{Tag.CHECKPOINT}` LIKE '%'"
    return list(search(names, condition, None)) if names else []


def data_holder(digest: str) -> Run | None:
    """Return the newest run that stores a prepared dataset. If no run stores the dataset, return None.

    Args:
        digest: Start of the dataset's distillation digest, as in `Tag.STORED_DATA`.
    """
    names = experiment_names()
    return next(search(names, f"tags.`{Tag.STORED_DATA}` LIKE '%{digest}%'", 1), None) if names else None


def find_by_flow_run(flow_run_id: str) -> Run | None:
    """Return the newest comparison or generation that a Prefect flow run recorded.

    If the flow run recorded only other runs, return the newest of these runs. If it recorded no run, return None.

    Args:
        flow_run_id: Id of the Prefect flow run.
    """
    names = experiment_names()
    condition = f"tags.`{Tag.PREFECT_FLOW_RUN}` = '{flow_run_id}'"
    recorded = list(search(names, condition, None)) if names else []
    parents = [run for run in recorded if run.kind in PARENTS]
    return next(iter([*parents, *recorded]), None)


def running(experiment: str | None = None) -> list[Run]:
    """Return the RUNNING runs, newest first.

    Args:
        experiment: Name of the experiment. If no experiment has this name, the result is empty. Default: all
            experiments.
    """
    names = {id_: name for id_, name in experiment_names().items() if experiment in (None, name)}
    condition = f"attributes.status = '{RunStatus.RUNNING}' AND tags.`{Tag.KIND}` LIKE '%'"
    return list(search(names, condition, None)) if names else []


def children(parent: str) -> list[Run]:
    """Return the child runs of a run, oldest first."""
    run = get(parent)
    names = {id_: name for id_, name in experiment_names().items() if name == run.experiment}
    return list(search(names, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'", None))[::-1]


def find(word: str) -> Run:
    """Return the run that a user specified by its id, its name or a unique prefix of its id.

    If several runs have the name, return the newest of these runs. The name of the experiment may precede the
    name of the run, as in `mnist/kd`.

    Raises:
        UserError: No run matches the word, or several ids have this prefix. If no run matches, the message lists the
            most similar names.
    """
    if word and _entity(word) is not None:
        return get(word)
    names = experiment_names()
    experiment, _, name = word.partition("/")
    in_experiment = {id_: each for id_, each in names.items() if each == experiment}
    for experiments, run_name in ((names, word), (in_experiment, name)):
        if experiments and "'" not in run_name:  # MLflow's filters cannot escape a quote
            named = next(search(experiments, f"attributes.run_name = '{run_name}'", 1), None)
            if named is not None:
                return named
    matching = list(search(names, f"attributes.run_id LIKE '{word}%'", 10)) if word.isalnum() else []
    if len(matching) == 1:
        return matching[0]
    if matching:
        listed = ", ".join(f"{run.run_id} ({run.name})" for run in matching)
        raise UserError(f"run {word!r}: several ids have this prefix: {listed}")
    nearest = get_close_matches(word, {run.name for run in runs(limit=PAGE)})
    hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else "`kd list` shows all runs"
    raise UserError(f"run {word!r} is not in the tracking store; {hint}")


def _entity(run_id: str) -> MlflowRun | None:
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):  # the second code: the text is not a valid id
            return None
        raise
    if run.info.lifecycle_stage == "deleted":
        raise UserError(f"run {run_id!r} was deleted; restore it with `mlflow runs restore --run-id {run_id}`")
    return run


def experiment_names() -> dict[str, str]:
    """Return the name of each experiment by id. Deleted experiments are left out."""
    client = MlflowClient()
    names: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_experiments(max_results=PAGE, page_token=token)
        names |= {experiment.experiment_id: experiment.name for experiment in page}
        token = page.token
        if not token:
            return names


def runs_with(run_ids: Iterable[str]) -> str:
    """Return an MLflow filter that selects the runs with these ids."""
    return f"attributes.run_id IN ({', '.join(repr(run_id) for run_id in run_ids)})"


def search(
    experiments: Mapping[str, str],
    condition: str,
    limit: int | None,
    view: int = ViewType.ACTIVE_ONLY,
    order: str = ORDERS["started"],
) -> Iterator[Run]:
    """Yield the runs that meet a condition, by default the newest first.

    The runs are read in pages, because a server refuses large answers.

    Args:
        experiments: Names of the experiments, by id.
        condition: Filter in the syntax of MLflow.
        limit: Maximum number of runs. If the limit is None, all runs are returned.
        view: Runs to yield: active runs, deleted runs or both.
        order: Order of the runs in the syntax of MLflow.
    """
    client = MlflowClient()
    left, token = limit, None
    while left is None or left > 0:
        page = client.search_runs(
            list(experiments),
            condition,
            view,
            max_results=min(left or PAGE, PAGE),
            order_by=[order],
            page_token=token,
        )
        yield from (_read(run, experiments) for run in page)
        left, token = None if left is None else left - len(page), page.token
        if not token:
            return


def _read(run: MlflowRun, experiments: Mapping[str, str]) -> Run:
    tags = dict(run.data.tags)
    start, status = int(tags.get(Tag.RESUMED, run.info.start_time)), RunStatus(run.info.status)
    return Run(
        run_id=run.info.run_id,
        name=run.info.run_name,
        experiment=experiments[run.info.experiment_id],
        kind=tags.get(Tag.KIND),
        status=status,
        created=run.info.start_time,
        start=start,
        end=None
        if run.info.status == RunStatus.RUNNING
        else max(start, run.info.end_time),  # the clock may have been set back
        key=tags.get(Tag.KEY),
        parent=tags.get(MLFLOW_PARENT_RUN_ID),
        tags=tags,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
