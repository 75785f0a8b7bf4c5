"""What every teacher's and student's run has in common: its start, its metrics epoch by epoch, its network."""

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
from kdmodels.evaluation import by_class, confidences, macro, predict
from kdmodels.experiment import Recipe
from kdmodels.networks import Description, Ensemble, load_network, load_state, parameters, save_network
from kdmodels.statistics import expected_calibration_error
from kdmodels.temporary import temporary_folder
from kdmodels.training import Replica
from tasks import tracking
from tasks.references import DataReference
from tasks.results import CLASSES, MEMBERS, NETWORK, SIZE
from tasks.served import record_model
from tasks.steps import Begun

FLUSH_SECONDS = 1.0  # how old the figures in the ledger may be while a network trains


def start(
    experiment: str,
    begun: Begun,
    data: DataReference,
    parent: str,
    origin: dict[str, str],
    *,
    control: str | None = None,
) -> str:
    """Start the run of a plan's step, or let the interrupted one go on: params, tags and the dataset as an input.

    Args:
        origin: that of the task. control: the variant that a student is compared with.
    """
    step = begun.step
    told = {"kd.note": step.note, "kd.control": control}
    run_id = tracking.start(
        experiment,
        step.name,
        step.kind,
        key=step.key,
        parent=parent,
        params=step.params | {"seeds": str(step.seeds)},
        tags={
            **begun.claim(),
            "kd.variant": step.variant,
            "kd.replicas": step.replicas,
            "kd.seeds": str(step.seeds),
            **{tag: value for tag, value in told.items() if value},
            **origin,
        },
        continues=begun.interrupted,
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
    """Which Prefect runs, as the task that asks knows them, and which versions of the libraries a run comes from."""
    libraries = {f"kd.{name}": version(name) for name in ("torch", "mlflow", "prefect")}
    prefect = {"kd.prefect_flow_run": flow_run.get_id(), "kd.prefect_task_run": task_run.get_id()}
    return libraries | {"kd.version": version("kdflow")} | {tag: str(id_) for tag, id_ in prefect.items() if id_}


def log_warning(run_id: str | None) -> None:
    """A run's warning in the task's log too: of a scheduled run nobody watches the progress."""
    warning = tracking.get(run_id).tags.get(tracking.WARNING) if run_id else None
    if warning:
        get_run_logger().warning(warning)


class EpochLog:
    """Logs each epoch's figures, averaged over the replicas, a batch at a time."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._rows: list[tuple[str, float, int, float]] = []
        self._flushed = time.monotonic()
        self._epoch = 0

    def __call__(self, epoch: int, replicas: list[Replica]) -> None:
        """For `kdmodels.training.fit`: all epochs so far that are new here, of a replica that ended its last."""
        for number in range(self._epoch + 1, epoch + 1):
            self._add(means([one.history[min(number, len(one.history)) - 1] for one in replicas], number))
            self._add([("epoch", number, number)])
        self._epoch = epoch
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def finish(self, replicas: list[Replica], recipe: Recipe) -> None:
        """Send the rest. Where the kept weights may be an earlier epoch's, their figures stand one step after the last.

        So a metric's last value, which tables show, is always that of the stored network.
        """
        if recipe.select != "last":
            self._add(means([replica.figures for replica in replicas], last_epoch(replicas) + 1))
        self.flush()

    def flush(self) -> None:
        """Send what has not been sent."""
        tracking.log_metrics(self._run_id, self._rows)
        self._rows, self._flushed = [], time.monotonic()

    def _add(self, rows: list[tuple[str, float, int]]) -> None:
        now = time.time()  # not when they are sent: charts over time show it
        self._rows += [(*row, now) for row in rows]


@contextmanager
def timed(run_id: str, what: str, before: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
    """Log the block's seconds by the clock, and those `before` an interruption, as `seconds/<what>`."""
    began = time.monotonic()
    yield
    tracking.log_metrics(run_id, [(f"seconds/{what}", before() + time.monotonic() - began, 0)])


def last_epoch(replicas: list[Replica]) -> int:
    """The epoch in which the last of the replicas ended."""
    return max(len(replica.history) for replica in replicas)


def means(figures: list[dict[str, float]], step: int) -> list[tuple[str, float, int]]:
    """Each figure's mean, and from two replicas on its standard deviation (`/std`, n - 1), as metric rows."""
    rows: list[tuple[str, float, int]] = []
    for name in figures[0]:
        values = [figure[name] for figure in figures]
        with np.errstate(invalid="ignore"):  # the figures of a replica that diverged
            rows.append((name, float(np.mean(values)), step))
            if len(values) > 1:
                rows.append((f"{name}/std", float(np.std(values, ddof=1)), step))
    return rows


def record_network(run_id: str, description: Description, state: dict[str, Tensor], data: Dataset) -> nn.Module:
    """Store the network twice: as ONNX, to be served, and as safetensors and description, to be trained on or tapped.

    Its figures by class, on validation, are recorded too: they are of this network, not means over seeds.
    """
    network = description.build(pretrained=False)
    load_state(network, state)
    network.eval()
    with temporary_folder() as folder:
        save_network(folder, description, state)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        tracking.log_folder(run_id, folder, NETWORK)
    sizes = {SIZE: parameters(network), "size/file_mb": size / 1e6}
    tracking.log_metrics(run_id, [(name, value, 0) for name, value in sizes.items()])
    record_classes(run_id, predict(network, data.validation), data)
    with timed(run_id, "model"):
        record_model(run_id, description, network, data)
    return network


def record_classes(run_id: str, logits: Tensor, data: Dataset) -> None:
    """The figures by class, their means over classes and the calibration of logits (N, K) on the validation split."""
    predicted, labels = logits.argmax(dim=1).numpy(), data.validation.labels.numpy()
    rows = by_class(predicted, labels, data.classes)
    figures = macro(rows) | {"ece": expected_calibration_error(confidences(logits), predicted == labels)}
    tracking.log_table(run_id, CLASSES, pd.DataFrame(rows))
    tracking.log_metrics(run_id, [(f"val/{name}", value, 0) for name, value in figures.items()])


def recorded_network(run_id: str, code: Collection[str]) -> tuple[nn.Module, Description]:
    """Load a finished run's network; of an ensemble's run, its members as one, and the description of the first.

    Args:
        code: the modules that the user named, whose code the network may run.
    """
    members = tracking.get(run_id).tags.get(MEMBERS)
    if members is None:
        return load_network(tracking.artifact(run_id, NETWORK), code)
    networks, descriptions = zip(*map(partial(recorded_network, code=code), json.loads(members)), strict=True)
    return Ensemble(networks), descriptions[0]


def use_threads(count: int) -> None:
    """Set torch's intra-op threads; equal for all tasks of a flow, so that concurrent ones do not disagree."""
    keep_freed_memory()
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
