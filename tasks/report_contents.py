"""The contents of a comparison's report, read from the store.

This module imports neither torch nor prefect, so that `kd report` starts quickly.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from kdmodels.errors import UserError
from kdmodels.evaluation.ranking import winner
from kdmodels.evaluation.requirements import Rule
from kdmodels.experiment import Experiment
from kdmodels.report.contents import Contents, DataFacts, Effort, PlannedRun, Teacher, Trial, Verdict
from kdmodels.report.curves import Point, curves
from kdmodels.report.grids import varied
from kdmodels.report.leaderboard import LeaderboardRow, costs, leaderboard
from kdmodels.report.losses import formulas, term_in_words
from kdmodels.report.predictions import Predictions
from kdmodels.report.sections.learning import shown_variants
from tasks import queries, results, tracking
from tasks.references import Plan, StudentReference, VerdictReference
from tasks.results import (
    ACCURACY,
    CLASSES,
    GPU_MEMORY,
    INNER_ACCURACY,
    MEMORY,
    PLAN,
    PREDICTIONS,
    ROWS,
    SECONDS,
    SIZE,
    TEACHER_ACCURACY,
    TRIALS,
    VERDICT,
)
from tasks.tracking.tags import Tag
from tasks.tuned_values import tuning_in_words

VERSIONS = {"kdflow": Tag.VERSION, "torch": Tag.TORCH, "MLflow": Tag.MLFLOW, "Prefect": Tag.PREFECT}


def find_comparison(word: str | None) -> tracking.Run:
    """Return the comparison that the user named.

    Args:
        word: The name or id of the comparison's run, or of the run of one of its students. Default: the latest
            comparison.

    Raises:
        UserError: there is no such run, or it belongs to no comparison with a leaderboard.
    """
    tracking.configure()
    run = results.latest_comparison() if word is None else tracking.find(word)
    comparison = tracking.get(run.parent) if run.parent else run
    if comparison.kind != "comparison":
        raise UserError(f"run {run.name} ({run.run_id}) belongs to no comparison, so it has no report")
    if not tracking.has_artifact(comparison.run_id, ROWS):
        raise UserError(f"run {comparison.name} ({comparison.status}) has no leaderboard, so it has no report")
    return comparison


def read_contents(comparison: tracking.Run) -> Contents:
    """Return the contents of a comparison's report. The comparison must have a leaderboard."""
    run_id = comparison.run_id
    students = [StudentReference.model_validate(row) for row in tracking.read_json(run_id, ROWS)]
    experiment = Experiment.model_validate(tracking.read_json(run_id, "experiment.json"))
    rows = leaderboard(students, results.correctness(comparison))
    best = winner(students)
    contents = Contents(
        experiment=comparison.experiment,
        run_id=run_id,
        started=datetime.fromtimestamp(comparison.start / 1000, UTC).isoformat(timespec="seconds"),
        verdict=_verdict(run_id),
        rows=rows,
        winner=best.variant if best else None,
        teacher=_teacher(comparison),
        tuning=tuning_in_words(students),
        objectives={each.name: " + ".join(map(term_in_words, each.terms)) for each in experiment.variants},
        formulas=formulas([term.loss for variant in experiment.variants for term in variant.terms]),
        notes=[comparison.tags[Tag.NOTE]] if Tag.NOTE in comparison.tags else [],
        trials=[trial for student in students for trial in _trials(student)],
        grid=_grids(experiment, rows),
        predictions=_predictions(run_id),
        runs=_runs(run_id, students, comparison.tags.get(Tag.TEACHER_RUN)),
        stages=_stages(comparison.metrics),
        data=_data(run_id, experiment, best),
        versions={library: comparison.tags[tag] for library, tag in VERSIONS.items() if tag in comparison.tags},
        spec=queries.spec(run_id),
        folds=experiment.data.folds or 1,
    )
    return replace(contents, curves=_curves(contents))


def _verdict(run_id: str) -> Verdict | None:
    if not tracking.has_artifact(run_id, VERDICT):
        return None
    stored = VerdictReference.model_validate(tracking.read_json(run_id, VERDICT))
    return Verdict(
        reason=stored.reason,
        model=stored.model,
        version=stored.version,
        winner=stored.winner,
        promoted=stored.promoted,
        test_accuracy=stored.test_accuracy,
        test_metrics=results.winner_metrics(stored),
        rules=[Rule(**rule) for name in ("budgets", "succession") for rule in stored.evidence.get(name, [])],
    )


def _teacher(comparison: tracking.Run) -> Teacher | None:
    """Return the teacher. With cross-validation, its costs are those of the first fold's teacher."""
    run_id = comparison.tags.get(Tag.TEACHER_RUN)
    if run_id is None:
        return None
    metrics = tracking.get(run_id).metrics
    accuracy = comparison.metrics.get(TEACHER_ACCURACY, metrics[ACCURACY])  # older comparisons lack the first metric
    return Teacher(accuracy, costs(int(metrics[SIZE]) if SIZE in metrics else None, metrics))


def _predictions(run_id: str) -> Predictions | None:
    if not tracking.has_artifact(run_id, PREDICTIONS):
        return None
    return Predictions.model_validate(tracking.read_json(run_id, PREDICTIONS))


def _curves(contents: Contents) -> dict[str, dict[str, list[Point]]]:
    """Return the learning curves that the report shows, by variant. With cross-validation, use the first fold."""
    run_ids = {row.student.variant: row.student.run_id for row in contents.finished}
    return {
        variant: curves([replica["history"] for replica in results.replicas(run_id)])
        for variant in shown_variants(contents)
        if (run_id := run_ids[variant])
    }


def _trials(student: StudentReference) -> list[Trial]:
    """Return the trials of the search that chose a student's hyperparameters."""
    if student.trials is None or student.run_id is None:
        return []
    search = tracking.get(student.run_id).tags.get(Tag.TUNING)
    if search is None or not tracking.has_artifact(search, TRIALS):
        return []
    with tracking.artifact(search, TRIALS).open(newline="", encoding="utf-8") as file:
        return [_trial(student.variant, row) for row in csv.DictReader(file)]


def _trial(variant: str, row: Mapping[str, str]) -> Trial:
    values = {name: float(text) for name, text in row.items() if name not in ("trial", INNER_ACCURACY) and text}
    return Trial(variant, values, float(row[INNER_ACCURACY]) if row[INNER_ACCURACY] else None)


def _grids(experiment: Experiment, rows: Sequence[LeaderboardRow]) -> list[Trial]:
    accuracies = {row.student.variant: row.accuracy for row in rows}
    grids = dict.fromkeys(variant.grid for variant in experiment.variants if variant.grid)
    return [
        Trial(grid, values, accuracies.get(name))
        for grid in grids
        for name, values in varied([each for each in experiment.variants if each.grid == grid]).items()
    ]


def _runs(run_id: str, students: Sequence[StudentReference], teacher: str | None) -> list[PlannedRun]:
    """Return the runs of the plan. With cross-validation, only the runs of the first fold have time and memory."""
    if not tracking.has_artifact(run_id, PLAN):
        return []
    plan = Plan.model_validate(tracking.read_json(run_id, PLAN))
    metrics = {student.variant: student.metrics for student in students}
    if teacher:
        metrics[plan.teacher.name] = tracking.get(teacher).metrics
    first = {step.name for step in (plan.teacher, *plan.students)}
    planned = [(step, metrics.get(step.variant, {}) if step.name in first else {}) for step in plan.steps]
    return [
        PlannedRun(step.name, step.action_in_words, step.reason, _effort(of_run, "training"))
        for step, of_run in planned
    ]


def _stages(metrics: Mapping[str, float]) -> dict[str, Effort]:
    names = [name.removeprefix(SECONDS) for name in metrics if name.startswith(SECONDS)]
    return {name: _effort(metrics, name) for name in names}


def _effort(metrics: Mapping[str, float], stage: str) -> Effort:
    return Effort(*(metrics.get(f"{prefix}{stage}") for prefix in (SECONDS, MEMORY, GPU_MEMORY)))


def _data(run_id: str, experiment: Experiment, best: StudentReference | None) -> DataFacts | None:
    splits = tracking.read_json(run_id, "splits.json") if tracking.has_artifact(run_id, "splits.json") else {}
    params = tracking.get(best.run_id).params if best and best.run_id else {}
    classes: list[str] = []
    if best and best.run_id and tracking.has_artifact(best.run_id, CLASSES):
        with tracking.artifact(best.run_id, CLASSES).open(newline="", encoding="utf-8") as file:
            classes = [row["class"] for row in csv.DictReader(file)]
    names = {"data.digest": "digest of the data", "data.validation_digest": "digest of the validation images"}
    first = splits[0] if isinstance(splits, list) else splits
    folds = [f"{len(splits)} folds; the numbers of images are those of the first"] if isinstance(splits, list) else []
    return DataFacts(
        source=experiment.data.source,
        digests={name: params[param] for param, name in names.items() if param in params},
        examples={split: len(indices) for split, indices in first.items()},
        classes=classes,
        notes=[*folds, *_lines(run_id, "notes.txt"), *_skipped(run_id)],
    )


def _skipped(run_id: str) -> list[str]:
    count = len(_lines(run_id, "skipped.txt"))
    return [f"{count} files were skipped; skipped.txt of the comparison's run lists them"] if count else []


def _lines(run_id: str, path: str) -> list[str]:
    """Return the lines of a text file. If the run has no such file, the list is empty."""
    if not tracking.has_artifact(run_id, path):
        return []
    return tracking.artifact(run_id, path).read_text(encoding="utf-8").splitlines()
