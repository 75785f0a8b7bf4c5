"""Finding runs: by what a user types, by key, by parent."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from kdmodels.errors import UserError, allowed

KIND = "kd.kind"
KEY = "kd.key"
CLAIM = "kd.claim"  # of a step's runs: the word by which the folder of its checkpoints on a machine finds them
ERROR = "kd.error"  # of a run: why it ended, in one line
WARNING = "kd.warning"  # of a run: what its user should know, though it goes on
RESUMED = "kd.resumed"  # of a run that was interrupted: when it last went on, in ms since 1970
RESUMED_EPOCH = "kd.resumed_epoch"  # and after which epoch
KINDS = ("comparison", "teacher", "student")
_PAGE = 1_000


@dataclass(frozen=True)
class Run:
    """What MLflow knows of one run; `metrics` holds each one's last value.

    `created`, `start` and `end` are ms since 1970; `end` is None while it runs, `start` of one that was interrupted is
    when it last went on.
    """

    run_id: str
    name: str
    experiment: str
    kind: str | None
    status: str
    created: int
    start: int
    end: int | None
    key: str | None
    parent: str | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


def get(run_id: str) -> Run:
    """The run of that id.

    Raises:
        UserError: there is none, or it was deleted.
    """
    run = _entity(run_id)
    if run is None:
        raise UserError(f"run {run_id!r} is not in the tracking store")
    return _read(run, {run.info.experiment_id: MlflowClient().get_experiment(run.info.experiment_id).name})


def runs(experiment: str | None = None, kind: str | None = None, limit: int = 100) -> list[Run]:
    """The latest runs that this project made, newest first.

    Raises:
        UserError: no such experiment or kind.
    """
    names = _experiments()
    if experiment is not None:
        if experiment not in names.values():
            raise UserError(
                f"experiment {experiment!r} is not in the tracking store; {allowed(experiment, names.values())}"
            )
        names = {id_: name for id_, name in names.items() if name == experiment}
    if kind is not None and kind not in KINDS:
        raise UserError(f"kind {kind!r} is not one; {allowed(kind, KINDS)}")
    condition = f"tags.`{KIND}` = '{kind}'" if kind else f"tags.`{KIND}` LIKE '%'"
    return list(_search(names, condition, limit))


def is_new(experiment: str) -> bool:
    """Whether nothing was recorded under that name yet."""
    return experiment not in _experiments().values()


def next_start() -> int:
    """The start, in ms since 1970, of a run that begins now: after all others, though the clock may have been set back.

    What is newest is asked by the start alone: the last comparison, for one, whose winner is promoted.
    """
    newest = next(_search(_experiments(), f"tags.`{KIND}` LIKE '%'", 1), None)
    now = int(time.time() * 1000)
    return max(now, newest.created + 1) if newest else now


def finished(kind: str, keys: Iterable[str]) -> dict[str, Run]:
    """The newest FINISHED run of each key that has one; one query a key, since MLflow's tags know no IN and no OR."""
    names = _experiments()
    condition = f"attributes.status = 'FINISHED' AND tags.`{KIND}` = '{kind}' AND tags.`{KEY}` = "
    found = {key: next(_search(names, f"{condition}'{key}'", 1), None) for key in keys}
    return {key: run for key, run in found.items() if run is not None}


def claimed(claim: str, experiment: str | None = None) -> Run | None:
    """The newest run with that claim, of letters and digits, of an experiment or of all; None where there is none."""
    names = {id_: name for id_, name in _experiments().items() if experiment in (None, name)}
    return next(_search(names, f"tags.`{CLAIM}` = '{claim}'", 1), None) if names else None


def running(experiment: str | None = None) -> list[Run]:
    """The runs, of an experiment or of all, that have no end, newest first; none where there is no such experiment."""
    names = {id_: name for id_, name in _experiments().items() if experiment in (None, name)}
    condition = f"attributes.status = 'RUNNING' AND tags.`{KIND}` LIKE '%'"
    return list(_search(names, condition, None)) if names else []


def children(parent: str) -> list[Run]:
    """The runs whose parent that is, oldest first."""
    run = get(parent)
    names = {id_: name for id_, name in _experiments().items() if name == run.experiment}
    return list(_search(names, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'", None))[::-1]


def find(word: str) -> Run:
    """The run that a user means: an id, a name (the latest so named), or the unique beginning of an id.

    Raises:
        UserError: nothing is so called (with the nearest names), or several ids begin so (with all of them).
    """
    if word and _entity(word) is not None:
        return get(word)
    names = _experiments()
    if "'" not in word:  # MLflow's filters have no escape for it
        named = next(_search(names, f"attributes.run_name = '{word}'", 1), None)
        if named is not None:
            return named
    begun = list(_search(names, f"attributes.run_id LIKE '{word}%'", 10)) if word.isalnum() else []
    if len(begun) == 1:
        return begun[0]
    if begun:
        listed = ", ".join(f"{run.run_id} ({run.name})" for run in begun)
        raise UserError(f"run {word!r}: several ids begin so: {listed}")
    nearest = get_close_matches(word, {run.name for run in runs(limit=_PAGE)})
    hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else "`kd list` shows those that there are"
    raise UserError(f"run {word!r} is not in the tracking store; {hint}")


def _entity(run_id: str) -> MlflowRun | None:
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the second: not even an id
            return None
        raise
    if run.info.lifecycle_stage == "deleted":
        raise UserError(f"run {run_id!r} was deleted; restore it with `mlflow runs restore --run-id {run_id}`")
    return run


def _experiments() -> dict[str, str]:
    """Id -> name of all that are not deleted."""
    client = MlflowClient()
    found: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_experiments(max_results=_PAGE, page_token=token)
        found |= {experiment.experiment_id: experiment.name for experiment in page}
        token = page.token
        if not token:
            return found


def _search(
    experiments: Mapping[str, str], condition: str, limit: int | None, view: int = ViewType.ACTIVE_ONLY
) -> Iterator[Run]:
    """Newest first, as `next_start` orders them; page by page, since a server refuses big pages."""
    client = MlflowClient()
    left, token = limit, None
    while left is None or left > 0:
        page: Any = client.search_runs(
            list(experiments),
            condition,
            view,
            max_results=min(left or _PAGE, _PAGE),
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from (_read(run, experiments) for run in page)
        left, token = None if left is None else left - len(page), page.token
        if not token:
            return


def _read(run: MlflowRun, experiments: Mapping[str, str]) -> Run:
    tags = dict(run.data.tags)
    start = int(tags.get(RESUMED, run.info.start_time))
    return Run(
        run_id=run.info.run_id,
        name=run.info.run_name,
        experiment=experiments[run.info.experiment_id],
        kind=tags.get(KIND),
        status=run.info.status,
        created=run.info.start_time,
        start=start,
        end=None if run.info.status == "RUNNING" else max(start, run.info.end_time),  # the clock may have been set back
        key=tags.get(KEY),
        parent=tags.get(MLFLOW_PARENT_RUN_ID),
        tags=tags,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
