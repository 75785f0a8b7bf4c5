"""Reading the ledger: what `kd list`, `kd show` and `kd compare` print. Nothing here imports torch or prefect."""

import csv
import json
import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import yaml

from flows.experiments import shipped
from flows.run import with_variants
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.report.evidence import Right
from kdmodels.text import escaped
from tasks import results, tracking
from tasks.references import StudentReference
from tasks.tracking.contents import artifact_names, model_uri


def list_runs(limit: int = 30) -> list[dict[str, Any]]:
    """The latest runs, newest first.

    Returns:
        run_id, name, kind, experiment, status, started (ISO 8601, UTC), seconds (None while it runs), val/accuracy
        and parent (a run's id), each None where there is none.
    """
    tracking.configure()
    return [_line(run) for run in tracking.runs(limit=limit)]


def list_experiments() -> list[dict[str, Any]]:
    """The experiments that come with kdflow and those that have run, in order of name.

    Returns:
        name, shipped, comparisons (how many), last_started (ISO 8601, UTC) and champion (`model/version`).
    """
    tracking.configure()
    ran: dict[str, list[tracking.Run]] = {}
    for run in tracking.runs(kind="comparison", limit=results.ALL):
        ran.setdefault(run.experiment, []).append(run)
    names = shipped()
    return [
        {
            "name": name,
            "shipped": name in names,
            "comparisons": len(ran.get(name, [])),
            "last_started": _iso(ran[name][0].start) if name in ran else None,
            "champion": _champion(ran[name][0]) if name in ran else None,
        }
        for name in sorted({*names, *ran})
    ]


def compare(words: list[str]) -> tuple[list[dict[str, Any]], dict[str, Right]]:
    """What `kdmodels.report.leaderboard.leaderboard` takes: rows, and which validation examples they get right.

    Args:
        words: RUNs. None at all is the last comparison; a comparison's rows are all its students, and several runs are
            put together: one that is there twice counts once, and equal names get their experiment's name and, where
            that does not tell them apart, a run's id.
    Raises:
        UserError: no such run, or one that has nothing to compare.
    """
    tracking.configure()
    chosen = [tracking.find(word) for word in words] or [results.latest_comparison()]
    found: dict[str, tuple[dict[str, Any], tracking.Run]] = {}
    compared: dict[tuple[str, str | None, str], str] = {}  # a comparison's fold's variant, as a key of those found
    for run in chosen:
        for row in _rows(run):
            key = row["run_id"] or f"{run.run_id}/{row['variant']}"
            found.setdefault(key, (row, run))
            compared[run.parent or run.run_id, run.params.get("data.digest"), row["variant"]] = key
    names = [row["variant"] for row, _ in found.values()]
    names = _longer(names, [f"{run.experiment}/{row['variant']}" for row, run in found.values()])
    names = _longer(
        names,
        [f"{run.experiment}/{row['variant']}/{(row['run_id'] or run.run_id)[:8]}" for row, run in found.values()],
    )
    named = dict(zip(found, names, strict=True))
    same = {row["variant"]: key for key, (row, _) in reversed(found.items())}  # where runs alone were named

    def control(row: dict[str, Any], run: tracking.Run) -> str | None:
        name = row["control"]
        own = run.parent or run.run_id, run.params.get("data.digest"), name
        return named.get(compared.get(own, same.get(name, "")))

    right: dict[str, Right] = {}
    for run in chosen:
        right = results.right(run) | right  # as the rows: one that is there twice counts as it first came
    return [row | {"variant": named[key], "control": control(row, run)} for key, (row, run) in found.items()], right


def show(word: str) -> dict[str, Any]:
    """All that the ledger knows of one run.

    Returns:
        What `list_runs` says, and error, params, metrics (each one's last value), tags (kdflow's own), model (its
        URI), artifacts (names); of a student replica (the stored one's figures) and seeds (every one's); of a
        student and a teacher classes (the stored network's figures by class on validation, the least accurate first);
        of a comparison children (as `list_runs`, oldest first) and verdict. What a run has not got so far is None or
        empty.
    Raises:
        UserError: no such run.
    """
    tracking.configure()
    run = tracking.find(word)
    names = artifact_names(run.run_id)
    shown = _line(run) | {
        "error": run.tags.get("kd.error"),
        "params": run.params,
        "metrics": run.metrics,
        "tags": {tag: value for tag, value in run.tags.items() if tag.startswith("kd.")},
        "model": model_uri(run.run_id),
        "artifacts": names,
    }
    if run.kind == "student":
        shown["replica"] = json.loads(run.tags["replica"]) if "replica" in run.tags else None
        shown["seeds"] = [
            {"seed": replica["seed"], "epoch": replica["epoch"], **replica["figures"]}
            for replica in results.replicas(run.run_id)
        ]
    if run.kind in ("student", "teacher"):
        shown["classes"] = _classes(run.run_id) if results.CLASSES in names else []
    if run.kind == "comparison":
        shown["children"] = [_line(child) for child in tracking.children(run.run_id)]
        shown["verdict"] = tracking.read_json(run.run_id, results.VERDICT) if results.VERDICT in names else None
    return shown


def spec(word: str) -> str:
    """The experiment file that reproduces a comparison, or one of its students beside its control and the teacher.

    Raises:
        UserError: no such run, or not one of a comparison.
    """
    tracking.configure()
    run = tracking.find(word)
    comparison = tracking.get(run.parent) if run.parent else run
    if comparison.kind != "comparison" or not tracking.has_artifact(comparison.run_id, "experiment.json"):
        raise UserError(f"run {run.name} is of no comparison: there is no file that made it")
    experiment = Experiment.model_validate(tracking.read_json(comparison.run_id, "experiment.json"))
    if run.kind == "student":
        experiment = with_variants(experiment, [run.tags["kd.variant"]])
    told = {name: comparison.tags.get(f"kd.{name}", "?") for name in ("version", "torch")}
    folder = comparison.tags.get("kd.data_dir")
    command = f"kd run FILE{f' --data-dir {folder}' if folder else ''}"
    made_by = f"{run.kind} {run.name} ({run.run_id}), by kdflow {told['version']} and torch {told['torch']}"
    return (
        f"# {escaped(made_by)};\n"
        f"# the same versions on the same machine give the same weights: {escaped(command)}\n"
        + yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )


def _classes(run_id: str) -> list[dict[str, Any]]:
    with tracking.artifact(run_id, results.CLASSES).open(newline="", encoding="utf-8") as file:
        rows = [
            {"class": row.pop("class"), "examples": int(row.pop("examples"))}
            | {name: float(figure) if figure else None for name, figure in row.items()}
            for row in csv.DictReader(file)
        ]
    return sorted(rows, key=lambda row: math.inf if row["accuracy"] is None else row["accuracy"])


def _line(run: tracking.Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "kind": run.kind,
        "experiment": run.experiment,
        "status": run.status,
        "started": _iso(run.start),
        "seconds": None if run.end is None else (run.end - run.start) / 1000,
        "val/accuracy": run.metrics.get(results.ACCURACY),
        "parent": run.parent,
    }


def _iso(milliseconds: int) -> str:
    """Since 1970, as MLflow counts.

    >>> _iso(1_700_000_000_000)
    '2023-11-14T22:13:20+00:00'
    """
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _champion(comparison: tracking.Run) -> str | None:
    model = comparison.params.get("promote.model")
    version = tracking.champion(model) if model else None
    return f"{version.model}/{version.version}" if version else None


def _rows(run: tracking.Run) -> list[dict[str, Any]]:
    if run.kind in ("student", "teacher"):
        return [results.reference(run.run_id, reused=False).model_dump(mode="json")]
    if run.kind != "comparison":
        raise UserError(f"run {run.name} ({run.run_id}) was not made by kdflow; `kd list` shows those that were")
    if not tracking.has_artifact(run.run_id, results.ROWS):
        raise UserError(f"run {run.name} ({run.status}) has no leaderboard: none of its students was compared")
    rows = [StudentReference.model_validate(row) for row in tracking.read_json(run.run_id, results.ROWS)]
    return [row.model_dump(mode="json") for row in rows]


def _longer(names: list[str], longer: list[str]) -> list[str]:
    """The longer names of those that clash.

    >>> _longer(["kd", "kd", "hint"], ["digits/kd", "mnist/kd", "digits/hint"])
    ['digits/kd', 'mnist/kd', 'hint']
    """
    count = Counter(names)
    return [long if count[name] > 1 else name for name, long in zip(names, longer, strict=True)]
