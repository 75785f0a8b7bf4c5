"""measure_metrics: measure the metrics that an experiment names in `metrics`, on the validation split.

Metrics do not influence the training, so they are not part of a student's cache key. The values are stored with the
student's run, and are measured again if the code of a metric has changed.
"""

import json
from collections.abc import Collection, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from safetensors.torch import load_file

from kdmodels.device import find_device
from kdmodels.evaluation import metrics
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Experiment
from kdmodels.experiment.recipe import Student
from kdmodels.experiment.user_code import require_named
from kdmodels.networks import load_state
from tasks import tracking
from tasks import training_runs as runs
from tasks.cross_validation import Fold
from tasks.planning.keys import threads
from tasks.planning.networks import describe
from tasks.prepare_data import load
from tasks.references import DataReference, StudentReference
from tasks.results import METRIC, REPLICAS, SCORES


def with_metrics(students: Sequence[StudentReference], fold: Fold) -> list[StudentReference]:
    """Return the rows of a fold's students with the experiment's metrics. Measure metrics that are not recorded yet.

    Raises:
        UserError: a value is infinite or NaN, or the user's function raises an error.
    """
    if not fold.experiment.metrics:
        return list(students)
    return measure_metrics(students, fold.experiment, fold.data)


@task(task_run_name="measure_metrics", cache_policy=NO_CACHE)
def measure_metrics(
    students: Sequence[StudentReference], experiment: Experiment, data: DataReference
) -> list[StudentReference]:
    """Return the rows of students with the metrics of the experiment. Unfinished students are returned unchanged."""
    tracking.configure()
    runs.use_threads(threads(experiment))
    recipes = {variant.name: experiment.student_of(variant) for variant in experiment.variants}
    return [
        _with_scores(student, recipes[student.variant], experiment, data) if student.finished else student
        for student in students
    ]


def _with_scores(
    student: StudentReference, recipe: Student, experiment: Experiment, data: DataReference
) -> StudentReference:
    run_id = student.run_id
    assert run_id is not None
    recorded = tracking.read_json(run_id, SCORES) if tracking.has_artifact(run_id, SCORES) else {}
    keys = {metric.name: _key(metric.name) for metric in experiment.metrics}
    missing = [name for name, key in keys.items() if key not in recorded]
    if missing:
        values = _scores_by_seed(student, recipe, missing, experiment, data)
        recorded |= {keys[name]: of_seeds for name, of_seeds in values.items()}
        tracking.log_json(run_id, SCORES, recorded)
        rows = runs.means([dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)], 0)
        tracking.log_metrics(run_id, [(f"{METRIC}{metric_key(name)}", value, step) for name, value, step in rows])
    chosen = {name: recorded[key] for name, key in keys.items()}
    return student.model_copy(update={"scores": chosen, "rank_by": experiment.ranking})


def _scores_by_seed(
    student: StudentReference, recipe: Student, names: Sequence[str], experiment: Experiment, data: DataReference
) -> dict[str, list[float]]:
    """Return the values of metrics on the validation split for the networks of all seeds of a student."""
    folder = tracking.artifact(str(student.run_id), REPLICAS)
    network = describe(recipe.network, data).build(pretrained=False)
    split, by_seed = load(data).validation, []
    for seed in student.seeds:
        load_state(network, load_file(folder / f"seed-{seed}.safetensors"))
        logits = predict(network, split, find_device(experiment.device))
        by_seed.append(metrics.measure(names, logits, split.labels, data.classes))
    return {name: [values[name] for values in by_seed] for name in names}


def metrics_to_measure(experiment: Experiment, code: Collection[str]) -> tuple[str, ...]:
    """Return the names of the metrics that are measured on the test split.

    The experiment may come from the store, and code that only the store names must not run. Therefore, a metric of the
    user is left out if its module is not in `code`. If a requirement bounds such a metric, an error is raised instead.

    Args:
        code: The modules and files whose code the user allows to run.

    Raises:
        UsageError: a requirement bounds a metric whose module is not in `code`.
    """
    modules = {metric.name: metric.name.partition(":")[0] for metric in experiment.metrics if metric.is_users}
    for name in experiment.promote.require.metrics:
        if name in modules:
            require_named("metrics", modules[name], code)
    return tuple(each.name for each in experiment.metrics if modules.get(each.name) in (None, *code))


def metric_key(name: str) -> str:
    """Return the name under which MLflow records a metric.

    >>> metric_key("mymetrics:cost")
    'mymetrics.cost'
    """
    return name.replace(":", ".")


def _key(name: str) -> str:
    """Return the key of a metric's values in the store. The key changes if the code of the metric changes."""
    return json.dumps({"metric": name, **metrics.version_of(name)}, sort_keys=True)
