"""Queries of the recorded runs for `kd list`, `kd show` and `kd compare`.

This module imports neither torch nor prefect, so that the commands start quickly.
"""

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import yaml
from pydantic import JsonValue

from kdmodels.data.files import listed
from kdmodels.errors import UserError
from kdmodels.evaluation.correctness import Correctness
from kdmodels.experiment import Experiment
from kdmodels.experiment.file import parse_experiment
from kdmodels.text import escaped
from tasks import results, tracking
from tasks.listings import (
    ClassLine,
    ComparisonDetails,
    ExperimentLine,
    RunDetails,
    RunLine,
    StudentDetails,
    TeacherDetails,
    TuningDetails,
    VersionLine,
)
from tasks.references import StudentReference
from tasks.tracking.contents import artifact_names, model_uri
from tasks.tracking.tags import PREFIX, Tag
from tasks.tuned_values import trained_with


def list_runs(
    chosen: tracking.RunFilter = tracking.RunFilter(),  # noqa: B008 - frozen
    limit: int = 30,
    sort: str = "started",
) -> list[RunLine]:
    """Return the first runs that meet all conditions of a filter. Arguments and errors: see `tracking.select`."""
    tracking.configure()
    return [_line(run) for run in tracking.select(chosen, limit, sort)]


def list_experiments(shipped: Collection[str]) -> list[ExperimentLine]:
    """Return the experiments that come with kdflow and the experiments that have run, sorted by name.

    Args:
        shipped: Names of the experiments that come with kdflow.
    """
    tracking.configure()
    comparisons: dict[str, list[tracking.Run]] = {}
    for run in tracking.runs(kind="comparison", limit=results.ALL):
        comparisons.setdefault(run.experiment, []).append(run)
    return [
        ExperimentLine(
            name=name,
            shipped=name in shipped,
            comparisons=len(comparisons.get(name, [])),
            last_started=_iso(comparisons[name][0].start) if name in comparisons else None,
            champion=_champion(comparisons[name][0]) if name in comparisons else None,
        )
        for name in sorted({*shipped, *comparisons})
    ]


@dataclass(frozen=True)
class _Compared:
    """A leaderboard row, and the run that the user named: the run of the row's student or of the comparison."""

    row: StudentReference
    run: tracking.Run

    @property
    def key(self) -> str:
        """The id of the student's run. If the student has no run, the comparison's run id and the variant's name."""
        return self.row.run_id or f"{self.run.run_id}/{self.row.variant}"

    def place(self, variant: str) -> tuple[str, str | None, str]:
        """Return a key for a variant of this comparison: the comparison's run id, the data digest, and the name."""
        return self.run.parent or self.run.run_id, self.run.params.get("data.digest"), variant


def compare(words: list[str]) -> tuple[list[StudentReference], dict[str, Correctness]]:
    """Return the students to compare, and which validation examples they classify correctly.

    A student that occurs several times is returned once. If students have equal names, the name of the experiment is
    added to each of these names. If the names are still equal, the id of the run is added too.

    Args:
        words: Names or ids of runs. The name or id of a comparison selects all its students. If the list is empty, the
            latest comparison is used.

    Returns:
        The leaderboard rows of the students, and the correctness by the id of the student's run. Both are arguments of
        `kdmodels.report.leaderboard.leaderboard`.

    Raises:
        UserError: there is no such run, a run has nothing to compare, or the runs have different data.
    """
    tracking.configure()
    chosen = [tracking.find(word) for word in words] or [results.latest_comparison()]
    found = [_Compared(row, run) for run in chosen for row in rows_of(run)]
    unique = {entry.key: entry for entry in reversed(found)}  # keep the first of equal runs
    entries = [unique[key] for key in dict.fromkeys(entry.key for entry in found)]
    names = dict(zip([entry.key for entry in entries], _unique_names(entries), strict=True))
    if len(chosen) > 1:
        _require_same_data({names[entry.key]: entry.row for entry in entries})
    in_comparison = {entry.place(entry.row.variant): names[entry.key] for entry in found}
    anywhere = {entry.row.variant: names[entry.key] for entry in reversed(entries)}  # if another word names the control

    def renamed(entry: _Compared) -> StudentReference:
        control = entry.row.control or ""
        return entry.row.model_copy(
            update={
                "variant": names[entry.key],
                "control": in_comparison.get(entry.place(control), anywhere.get(control)),
            }
        )

    correctness: dict[str, Correctness] = {}
    for run in chosen:
        correctness = results.correctness(run) | correctness  # keep the first of equal runs, as above
    return [renamed(entry) for entry in entries], correctness


def _require_same_data(rows: Mapping[str, StudentReference]) -> None:
    """Raise a UserError if students were validated on different images. The rows are given by the students' names."""
    places: dict[tuple[str | None, ...], list[str]] = {}
    for name, row in rows.items():
        if row.run_id:
            params = tracking.get(row.run_id).params
            place = tuple(params.get(param) for param in ("data.digest", "data.validation"))
            places.setdefault(place, []).append(name)
    if len(places) > 1:
        groups = " | ".join(listed(names) for names in places.values())
        raise UserError(
            f"these students were validated on different images, so their accuracies can't be compared: {groups}. "
            "Allowed: students on the same data, or two comparisons, which are shown side by side"
        )


def show(word: str) -> RunDetails:
    """Return all recorded information about one run.

    Args:
        word: A run or a registered model, see `find_run`. If the model has no champion, its newest version is shown.

    Raises:
        UserError: there is no such run or model.
    """
    tracking.configure()
    try:
        run, version = _find_run_and_version(word)
    except UserError:
        if not tracking.has_model(word) or tracking.champion(word):
            raise
        version = tracking.newest_version(word)
        run = tracking.run_of_version(version)
    names = artifact_names(run.run_id)
    details = RunDetails(
        **_line(run).model_dump(),
        error=run.tags.get(Tag.ERROR),
        params=run.params,
        metrics=run.metrics,
        tags={tag: value for tag, value in run.tags.items() if tag.startswith(PREFIX)},
        model=model_uri(run.run_id),
        artifacts=names,
        versions=[_version_line(each) for each in tracking.versions(version.model)] if version else [],
    ).model_dump()
    if run.kind in tracking.PARENTS:
        verdict = tracking.read_json(run.run_id, results.VERDICT) if results.VERDICT in names else None
        children = [_line(child) for child in tracking.children(run.run_id)]
        return ComparisonDetails(**details, children=children, verdict=verdict)
    if run.kind == "tuning":
        return TuningDetails(**details, trials=_trials(run.run_id))
    if run.kind not in ("student", "teacher"):
        return RunDetails(**details)
    classes = _classes(run.run_id) if results.CLASSES in names else []
    if run.kind == "teacher":
        return TeacherDetails(**details, classes=classes)
    replica = json.loads(run.tags[Tag.REPLICA]) if Tag.REPLICA in run.tags else None
    seeds = [
        {"seed": replica["seed"], "epoch": replica["epoch"], **replica["figures"]}
        for replica in results.replicas(run.run_id)
    ]
    trials = _trials(run.tags[Tag.TUNING]) if Tag.TUNING in run.tags else []
    return StudentDetails(
        **details,
        replica=replica,
        seeds=seeds,
        classes=classes,
        trials=trials,
        trained_with=trained_with(run.params, run.tags),
    )


def find_run(word: str) -> tracking.Run:
    """Return the run that the user named, or the run that made the registered model that the user named.

    A run takes precedence over a model of the same name.

    Args:
        word: The id, a unique prefix of the id, or the name of a run. Or a model: `name` (its champion), `name@alias`
            or `name/3`.

    Raises:
        UserError: there is neither such a run nor such a model.
    """
    return _find_run_and_version(word)[0]


def _find_run_and_version(word: str) -> tuple[tracking.Run, tracking.Version | None]:
    """Return the run of `find_run`. If the user named a model, also return the version of the model."""
    try:
        return tracking.find(word), None
    except UserError as no_run:
        try:
            version = tracking.find_model(word)
        except UserError as no_model:
            message = str(no_run)
            raise UserError(f"{message}{'' if message.endswith('?') else '.'} {no_model}") from None
    return tracking.run_of_version(version), version


def _version_line(version: tracking.Version) -> VersionLine:
    tags = version.tags
    notes = ["rolled back" if Tag.ROLLED_BACK in tags else None, tags.get(Tag.REVIEW)]
    notes.append(f"forced: {tags[Tag.FORCED]}" if Tag.FORCED in tags else None)
    return VersionLine(
        version=version.version,
        aliases=list(version.aliases),
        made_by=tags.get(Tag.VARIANT, tags.get(Tag.KIND)),
        run_id=version.run_id,
        comparison=tags.get(Tag.COMPARISON),
        test_accuracy=tags.get(Tag.TEST_ACCURACY),
        note=", ".join(filter(None, notes)) or None,
    )


def spec(word: str) -> str:
    """Return the experiment file that reproduces a comparison, one of its students or a generator.

    The file of a student includes the student's control and teacher. Paths below the current folder are relative.

    Args:
        word: A run or a registered model, see `find_run`.

    Raises:
        UserError: there is no such run or model, or the run belongs to no comparison.
    """
    tracking.configure()
    run = find_run(word)
    comparison = tracking.get(run.parent) if run.parent else run
    if not tracking.has_artifact(comparison.run_id, "experiment.json"):
        raise UserError(f"run {run.name} belongs to no comparison, so no experiment file made it")
    experiment = parse_experiment(tracking.read_json(comparison.run_id, "experiment.json"))
    if run.kind == "student" and isinstance(experiment, Experiment):
        experiment = experiment.only([run.tags[Tag.VARIANT]])
    kdflow, torch = (comparison.tags.get(tag, "?") for tag in (Tag.VERSION, Tag.TORCH))
    folder = comparison.tags.get(Tag.DATA_DIR)
    command = f"kd run FILE{f' --data-dir {folder}' if folder else ''}"
    text = yaml.safe_dump(_with_relative_paths(experiment.model_dump(mode="json")), sort_keys=False, allow_unicode=True)
    made_by = f"{run.kind} {run.name} ({run.run_id}), made by kdflow {kdflow} and torch {torch}"
    return (
        f"# {escaped(made_by)}.\n"
        f"# The same versions on the same machine give the same weights: {escaped(command)}\n{text}"
    )


def _with_relative_paths(value: JsonValue) -> JsonValue:
    """Replace each absolute path below the current folder by a path that is relative to this folder.

    A colleague who has the same files in another folder can then use the experiment file.
    """
    if isinstance(value, dict):
        return {key: _with_relative_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_relative_paths(each) for each in value]
    here = f"{os.getcwd()}{os.sep}"
    return f"./{value.removeprefix(here)}" if isinstance(value, str) and value.startswith(here) else value


def _classes(run_id: str) -> list[ClassLine]:
    with tracking.artifact(run_id, results.CLASSES).open(newline="", encoding="utf-8") as file:
        rows = [
            ClassLine(
                name=row["class"],
                examples=int(row["examples"]),
                accuracy=_number(row["accuracy"]),
                precision=_number(row["precision"]),
                f1=_number(row["f1"]),
            )
            for row in csv.DictReader(file)
        ]
    return sorted(rows, key=lambda row: math.inf if row.accuracy is None else row.accuracy)


def _trials(run_id: str) -> list[dict[str, float | None]]:
    """Return the trials of a search, the most accurate first. The list is empty if no trials are recorded."""
    if not tracking.has_artifact(run_id, results.TRIALS):
        return []
    with tracking.artifact(run_id, results.TRIALS).open(newline="", encoding="utf-8") as file:
        rows = [
            {"trial": int(row.pop("trial"))} | {name: _number(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]
    return sorted(rows, key=lambda row: -(row[results.INNER_ACCURACY] or 0.0))


def _number(text: str) -> float | None:
    return float(text) if text else None


def _line(run: tracking.Run) -> RunLine:
    return RunLine(
        run_id=run.run_id,
        name=run.name,
        kind=run.kind,
        experiment=run.experiment,
        status=run.status,
        started=_iso(run.start),
        seconds=None if run.end is None else (run.end - run.start) / 1000,
        accuracy=run.metrics.get(results.ACCURACY),
        parent=run.parent,
    )


def _iso(milliseconds: int) -> str:
    """Return a time in ms since 1970 as ISO 8601.

    >>> _iso(1_700_000_000_000)
    '2023-11-14T22:13:20+00:00'
    """
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _champion(comparison: tracking.Run) -> str | None:
    model = comparison.params.get("promote.model")
    version = tracking.champion(model) if model else None
    return f"{version.model}/{version.version}" if version else None


def rows_of(run: tracking.Run) -> list[StudentReference]:
    """Return the leaderboard rows of a comparison, or the one row of a student or teacher.

    Raises:
        UserError: the run has nothing to compare.
    """
    if run.kind in ("student", "teacher"):
        return [results.reference(run.run_id, reused=False)]
    if run.kind == "tuning":
        raise UserError(
            f"run {run.name} ({run.run_id}) is a search, which has no accuracy to compare. Allowed: its student"
        )
    if run.kind in ("generation", "generator"):
        raise UserError(f"run {run.name} ({run.run_id}) trains a generator, which has no accuracy to compare")
    if run.kind != "comparison":
        raise UserError(f"run {run.name} ({run.run_id}) was not made by kdflow; `kd list` shows the runs of kdflow")
    if not tracking.has_artifact(run.run_id, results.ROWS):
        raise UserError(f"run {run.name} ({run.status}) has no leaderboard: none of its students was compared")
    return [StudentReference.model_validate(row) for row in tracking.read_json(run.run_id, results.ROWS)]


def _unique_names(entries: Sequence[_Compared]) -> list[str]:
    names = [entry.row.variant for entry in entries]
    names = _longer(names, [f"{entry.run.experiment}/{entry.row.variant}" for entry in entries])
    return _longer(
        names,
        [
            f"{entry.run.experiment}/{entry.row.variant}/{(entry.row.run_id or entry.run.run_id)[:8]}"
            for entry in entries
        ],
    )


def _longer(names: list[str], longer: list[str]) -> list[str]:
    """Return the names, but replace each name that occurs more than once by its longer form.

    >>> _longer(["kd", "kd", "hint"], ["digits/kd", "mnist/kd", "digits/hint"])
    ['digits/kd', 'mnist/kd', 'hint']
    """
    count = Counter(names)
    return [long if count[name] > 1 else name for name, long in zip(names, longer, strict=True)]
