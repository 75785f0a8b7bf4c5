"""Functions that record the training of a teacher or student: its start, its metrics per epoch, and its network."""

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run
from torch import Tensor, nn

from kdmodels.data import Dataset
from kdmodels.device import keep_freed_memory
from kdmodels.evaluation.calibration import expected_calibration_error
from kdmodels.evaluation.predictions import by_class, confidences, macro, predict
from kdmodels.experiment import Recipe
from kdmodels.files.temporary import temporary_folder
from kdmodels.networks import Description, Ensemble, load_network, load_state, parameters, save_network
from kdmodels.peak_memory import Phase, peak_memory
from kdmodels.training import Replica
from tasks import tracking
from tasks.execution.steps import StepWork
from tasks.references import DataReference
from tasks.results import CLASSES, GPU_MEMORY, MEMORY, NETWORK, SECONDS, SIZE
from tasks.served_models import record_model
from tasks.tracking.tags import PREFIX, Tag

FLUSH_SECONDS = 1.0  # maximum age of unsent metrics while a network is trained


def start(
    experiment: str,
    work: StepWork,
    data: DataReference,
    parent: str | None,
    origin: dict[str, str],
    *,
    control: str | None = None,
) -> str:
    """Start the run of a planned step, or continue its interrupted run. Record its params, tags and dataset.

    Args:
        data: The data on which the network is trained.
        parent: The id of the comparison's run. `None` for a teacher without a comparison.
        origin: The tags that `origin` returned in the Prefect task.
        control: The name of the variant that a student is compared with.
    """
    step = work.step
    optional: dict[str, str | None] = {Tag.NOTE: step.note, Tag.CONTROL: control, Tag.TAKEN_OVER: work.taken_over}
    run_id = tracking.start(
        experiment,
        step.name,
        step.kind,
        key=step.key,
        parent=parent,
        params=step.params | {"seeds": str(step.seeds)},
        tags={
            **work.claim(),
            Tag.VARIANT: step.variant,
            Tag.REPLICAS: step.replicas,
            Tag.SEEDS: str(step.seeds),
            **{tag: value for tag, value in optional.items() if value},
            **origin,
        },
        continues=work.interrupted,
    )
    tracking.log_dataset(
        run_id,
        name=data.data.source,
        digest=data.digest,
        context="training",
        source={**data.data.model_dump(mode="json"), "digest": data.digest},
        profile=dict(data.examples),
    )
    return run_id


def origin() -> dict[str, str]:
    """Return tags that hold the ids of the current Prefect runs and the versions of the libraries."""
    libraries: dict[str, str] = {tag: version(tag.removeprefix(PREFIX)) for tag in (Tag.TORCH, Tag.MLFLOW, Tag.PREFECT)}
    prefect = {Tag.PREFECT_FLOW_RUN: flow_run.get_id(), Tag.PREFECT_TASK_RUN: task_run.get_id()}
    return libraries | {Tag.VERSION: version("kdflow")} | {tag: str(id_) for tag, id_ in prefect.items() if id_}


def log_warning(run_id: str | None) -> None:
    """Write the warning of a run, if any, to the log of the Prefect task. Users of scheduled runs can find it there.

    Args:
        run_id: The id of the run. If `None`, do nothing.
    """
    warning = tracking.get(run_id).tags.get(Tag.WARNING) if run_id else None
    if warning:
        get_run_logger().warning(warning)


def add_warning(run_id: str, warning: str) -> None:
    """Add a warning to a run. `kd run` shows the warnings of runs that are being recorded."""
    earlier = tracking.get(run_id).tags.get(Tag.WARNING)
    tracking.set_tags(run_id, {Tag.WARNING: "; ".join(filter(None, (earlier, warning)))})


class EpochLog:
    """Logger of the mean metrics of the replicas in each epoch. The metrics are sent in batches.

    A replica is the network that is trained with one seed.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._rows: list[tuple[str, float, int, float]] = []
        self._flushed = time.monotonic()
        self._epoch = 0

    def __call__(self, epoch: int, replicas: list[Replica]) -> None:
        """Log all epochs up to `epoch` that are not logged yet.

        If a replica stopped before an epoch, its last metrics are used for this epoch.

        `kdmodels.training.fit` calls this function after each epoch.
        """
        for number in range(self._epoch + 1, epoch + 1):
            self._add(means([replica.history[min(number, len(replica.history)) - 1] for replica in replicas], number))
            self._add([("epoch", number, number)])
        self._epoch = epoch
        self._flush_if_old()

    def finish(self, replicas: list[Replica], recipe: Recipe) -> None:
        """Send the remaining metrics. If the stored weights may come from an earlier epoch, log their metrics again.

        MLflow's tables show the last value of each metric, which then describes the stored weights.
        """
        if recipe.select != "last":
            self._add(means([replica.figures for replica in replicas], last_epoch(replicas) + 1))
        self.flush()

    def flush(self) -> None:
        """Send all metrics that have not been sent yet."""
        tracking.log_metrics(self._run_id, self._rows)
        self._rows, self._flushed = [], time.monotonic()

    def _flush_if_old(self) -> None:
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def _add(self, rows: list[tuple[str, float, int]]) -> None:
        now = time.time()  # the time of measurement, so that charts over time are correct
        self._rows += [(*row, now) for row in rows]


class EpochCount(EpochLog):
    """Logger of the number of finished epochs of a search.

    Trials have different hyperparameters, so the means of their metrics are not logged.
    """

    def __call__(self, epoch: int, replicas: list[Replica]) -> None:
        """Log the number of finished epochs, `epoch`."""
        self._add([("epoch", epoch, epoch)])
        self._flush_if_old()


@contextmanager
def timed(run_id: str, stage: str, before: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
    """Log the duration of the `with` block and the peak memory of this process as metrics.

    The metrics are `seconds/<stage>`, `memory_mb/<stage>` and, if torch uses a GPU, `gpu_memory_mb/<stage>`.

    Args:
        before: A function that returns the seconds that the stage took before an interruption. These seconds are
            added to the duration.
    """
    began = time.monotonic()
    with peak_memory() as phase:
        yield
    figures = stage_metrics(stage, before() + time.monotonic() - began, phase)
    tracking.log_metrics(run_id, [(name, value, 0) for name, value in figures.items()])


def stage_metrics(stage: str, seconds: float, phase: Phase) -> dict[str, float]:
    """Return the duration and the peak memory of a stage as metrics. Memory that was not measured is left out."""
    figures = {SECONDS: seconds, MEMORY: phase.resident_mb, GPU_MEMORY: phase.gpu_mb}
    return {f"{prefix}{stage}": value for prefix, value in figures.items() if value is not None}


def last_epoch(replicas: list[Replica]) -> int:
    """Return the number of epochs of the replica that trained longest."""
    return max(len(replica.history) for replica in replicas)


def means(figures: list[dict[str, float]], step: int) -> list[tuple[str, float, int]]:
    """Return the mean of each metric over the replicas. A metric that some replica lacks is left out.

    Args:
        figures: The metrics of each replica, by name.
        step: The step of the returned rows.

    Returns:
        Rows for `tracking.log_metrics`: name, value and step. With 2 or more replicas, rows whose names end with `/std`
        hold the sample standard deviations (n - 1).
    """
    rows: list[tuple[str, float, int]] = []
    for name in figures[0]:
        values = [figure[name] for figure in figures if name in figure]
        if len(values) < len(figures):
            continue  # one replica has stopped, and the others were not validated in this epoch
        with np.errstate(invalid="ignore"):  # a diverged replica has infinite metrics
            rows.append((name, float(np.mean(values)), step))
            if len(values) > 1:
                rows.append((f"{name}/std", float(np.std(values, ddof=1)), step))
    return rows


def record_network(run_id: str, description: Description, state: dict[str, Tensor], data: Dataset) -> Tensor:
    """Store a network and its validation metrics for each class. Return its logits for the N validation images, (N, K).

    The network is stored in two formats. The ONNX file is served. The safetensors file and the description are used to
    rebuild the network in PyTorch.

    The metrics describe only this network and are not means over seeds.

    Args:
        description: The description from which the network is built.
        state: The weights of the network.
        data: The dataset with the validation split.
    """
    network = description.build(pretrained=False)
    load_state(network, state)
    network.eval()
    with temporary_folder() as folder:
        save_network(folder, description, state)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        tracking.log_folder(run_id, folder, NETWORK)
    with tracking.metrics_together(run_id):
        sizes = {SIZE: parameters(network), "size/file_mb": size / 1e6}
        tracking.log_metrics(run_id, [(name, value, 0) for name, value in sizes.items()])
        logits = predict(network, data.validation)
        record_classes(run_id, logits, data)
        with timed(run_id, "model"):
            record_model(run_id, description, network, data)
    return logits


def record_classes(run_id: str, logits: Tensor, data: Dataset) -> None:
    """Record validation metrics: a table with one row per class, the means over classes, and the calibration error.

    Args:
        logits: Logits of the N validation examples for K classes, shape (N, K).
    """
    predicted, labels = logits.argmax(dim=1).numpy(), data.validation.labels.numpy()
    rows = by_class(predicted, labels, data.classes)
    figures = macro(rows) | {"ece": expected_calibration_error(confidences(logits), predicted == labels)}
    tracking.log_table(run_id, CLASSES, pd.DataFrame([row.record() for row in rows]))
    tracking.log_metrics(run_id, [(f"val/{name}", value, 0) for name, value in figures.items()])


def recorded_network(run_id: str, code: Collection[str]) -> tuple[nn.Module, Description]:
    """Load the network of a finished run. For an ensemble, load its members as one network.

    Args:
        code: The modules and files whose code the user allows to run. The network may need them.

    Returns:
        The network and its description. For an ensemble, the description of its first member.
    """
    members = tracking.get(run_id).tags.get(Tag.MEMBERS)
    if members is None:
        return load_network(tracking.artifact(run_id, NETWORK), code)
    networks, descriptions = zip(*map(partial(recorded_network, code=code), json.loads(members)), strict=True)
    return Ensemble(networks), descriptions[0]


def use_threads(count: int) -> None:
    """Set the number of torch's intra-op threads, which all tasks of this process share."""
    keep_freed_memory()
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
