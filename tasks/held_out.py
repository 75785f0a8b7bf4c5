"""The test split: opened here alone, and what networks predict on it, which is kept with their runs."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from kdmodels.data import Split
from kdmodels.data.likeness import descriptors, look_alike
from kdmodels.errors import UserError
from kdmodels.evaluation import by_class, confidences, macro, served_logits
from kdmodels.gate import Candidate
from kdmodels.losses import ensemble_logits
from kdmodels.networks import Description, read_description
from kdmodels.serving.costs import P50
from kdmodels.statistics import expected_calibration_error
from kdmodels.temporary import temporary_folder
from tasks import tracking
from tasks.costs import measured
from tasks.data import is_trained_on, load
from tasks.references import DataReference, StudentReference
from tasks.restored import model_of, models_of
from tasks.results import MEMBERS, NETWORK, SIZE
from tasks.tracking.served import load_model

READS = "kd.test_reads"  # tag of a comparison: how many times its promotion opened the test split
OUTCOMES = "test_outcomes.safetensors"  # artifact of a run: what its network predicts on a test split
TRAINED = "trained_on.safetensors"  # artifact of a champion's run: descriptors of the images it has seen
DIGEST = "test_digest"  # metadata of OUTCOMES: the test split
UNKNOWN = -1  # a class that a network knows and the data do not have


@dataclass(frozen=True)
class HeldOut:
    """The test split, opened when it is first needed; the comparison counts how often it was opened.

    code: the modules that the user named, whose code may run if a model has to be made from stored weights.
    record: whether outcomes are kept with the runs.
    """

    data: DataReference
    comparison: str
    code: Collection[str]
    record: bool

    @cached_property
    def split(self) -> Split:
        """The split; each object opens it at most once."""
        tracking.set_tags(self.comparison, {READS: self.reads + 1})
        return load(self.data).read_test()

    @property
    def reads(self) -> int:
        """How many times it was opened for this comparison."""
        return int(tracking.get(self.comparison).tags.get(READS, 0))

    @property
    def digest(self) -> str:
        """Digest of its content."""
        return load(self.data).split_digests["test"]

    @property
    def sketch(self) -> tuple[int, ...]:
        """Sketch of its examples."""
        return load(self.data).test_sketch

    @cached_property
    def trained(self) -> np.ndarray:
        """(M, 64) uint8, descriptors of all images that the data's students are trained or selected on."""
        data = load(self.data)
        return descriptors(split for split in (data.train, data.validation, data.transfer) if split is not None)

    @cached_property
    def images(self) -> np.ndarray:
        """(N, 64) uint8, descriptors of the test images."""
        return descriptors([self.split])


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a network predicts on the test split; all arrays are (N,).

    Attributes:
        labels: the true classes, as indices of the data's classes.
        predicted: the predicted ones; UNKNOWN is a class that the data do not have.
        confidences: the probability of the predicted class.
        seen: whether the network was trained or selected on a copy of the image; None if that is not known.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidences: np.ndarray
    seen: np.ndarray | None


def student_outcomes(student: StudentReference, test: HeldOut) -> Outcomes:
    """Outcomes of a student of the comparison, by its stored file: its source code may have changed."""
    assert student.run_id is not None
    run_id = student.run_id

    def logits() -> np.ndarray:
        return served_logits(model_of(run_id, load(test.data), test.code, record=test.record), test.split)

    return _outcomes(run_id, logits, test, lambda: look_alike(test.images, test.trained))


def champion_outcomes(champion: tracking.Version, test: HeldOut) -> Outcomes:
    """Outcomes of the champion, by the stored file that is served: its source code may have changed."""
    run_id = require_comparable(champion, test).run_id
    assert run_id is not None

    def logits() -> np.ndarray:
        return served_logits(load_model(champion.uri), test.split)

    def seen() -> np.ndarray | None:
        if is_trained_on(tracking.get(run_id), test.data):
            return look_alike(test.images, test.trained)
        if not tracking.has_artifact(run_id, TRAINED):
            return None
        return look_alike(test.images, load_file(tracking.artifact(run_id, TRAINED))["descriptors"])

    return _outcomes(run_id, logits, test, seen)


def teacher_outcomes(run_id: str, test: HeldOut) -> Outcomes:
    """Outcomes of a teacher, or of an ensemble's mean distribution, by the stored files."""

    def logits() -> np.ndarray:
        models = models_of(run_id, load(test.data), test.code, record=False)
        values = np.stack([served_logits(model, test.split) for model in models], axis=1)  # (N, M, K)
        return ensemble_logits(torch.from_numpy(values)).numpy() if len(models) > 1 else values[:, 0]

    return _outcomes(run_id, logits, test, lambda: None)


def _outcomes(
    run_id: str, logits: Callable[[], np.ndarray], test: HeldOut, seen: Callable[[], np.ndarray | None]
) -> Outcomes:
    """Return what was recorded with the run for this test split, or measure and record it."""
    recorded = _recorded(run_id, test.digest)
    if recorded is not None and len(recorded.labels) == test.data.examples["test"]:
        return recorded
    values = logits()
    outcomes = Outcomes(
        labels=test.split.labels.numpy(),
        predicted=_places(_description(run_id).classes, test.data)[values.argmax(axis=1)],
        confidences=confidences(torch.from_numpy(values)),
        seen=seen(),
    )
    if test.record:
        _record(run_id, outcomes, test)
    return outcomes


def _recorded(run_id: str, digest: str) -> Outcomes | None:
    if not tracking.has_artifact(run_id, OUTCOMES):
        return None
    with safe_open(tracking.artifact(run_id, OUTCOMES), framework="numpy") as tensors:
        if tensors.metadata()[DIGEST] != digest:
            return None
        arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    return Outcomes(arrays["labels"], arrays["predicted"], arrays["confidences"], arrays.get("seen"))


def _record(run_id: str, outcomes: Outcomes, test: HeldOut) -> None:
    """Keep the outcomes with the run, and its figures on the examples that it has not seen as metrics."""
    arrays = {name: value for name, value in vars(outcomes).items() if value is not None}
    with temporary_folder() as folder:
        save_file(arrays, folder / OUTCOMES, metadata={DIGEST: test.digest})
        tracking.log_folder(run_id, folder)
    run, figures = tracking.get(run_id), _figures(outcomes, test.data.classes)
    new = [(name, value, 0) for name, value in figures.items() if run.metrics.get(name) != value]
    tracking.log_metrics(run_id, new)


def _figures(outcomes: Outcomes, classes: list[str]) -> dict[str, float]:
    rows = ~outcomes.seen if outcomes.seen is not None and not outcomes.seen.all() else slice(None)
    labels, predicted = outcomes.labels[rows], outcomes.predicted[rows]
    figures = {
        "accuracy": float((predicted == labels).mean()),
        **macro(by_class(predicted, labels, classes)),
        "ece": expected_calibration_error(outcomes.confidences[rows], predicted == labels),
    }
    return {f"test/{name}": value for name, value in figures.items()}


def keep_trained(run_id: str, test: HeldOut) -> None:
    """Keep descriptors of the images that a champion was trained and selected on with its run, if it has none.

    Later data may mix these images into another test split.
    """
    if not tracking.has_artifact(run_id, TRAINED):
        with temporary_folder() as folder:
            save_file({"descriptors": test.trained}, folder / TRAINED)
            tracking.log_folder(run_id, folder)


def require_comparable(champion: tracking.Version, test: HeldOut) -> tracking.Version:
    """Return the champion.

    Raises:
        UserError: kdflow did not make it, or it takes images of another shape.
    """
    if champion.run_id is None or not tracking.has_artifact(champion.run_id, NETWORK):
        raise UserError(
            f"model {champion.model}: version {champion.version}, its champion, was not made by kdflow and can't be "
            "compared with; promote under another name (promote.model)"
        )
    shape = _description(champion.run_id).input_shape
    if shape != test.data.input_shape:
        raise UserError(
            f"the champion, version {champion.version}, takes images of {shape}, but {test.data.data.source} has "
            f"{test.data.input_shape}; promote under another name (promote.model)"
        )
    return champion


def classes_of(run_id: str) -> list[str]:
    """The classes that a run's network can predict."""
    return _description(run_id).classes


def candidate(
    name: str,
    of: StudentReference | tracking.Version,
    outcomes: Outcomes,
    test: HeldOut,
    kept: np.ndarray,
    taught: np.ndarray | None = None,
) -> Candidate:
    """Return a network as the gate sees it, on the test examples that are `kept`.

    Args:
        kept: (N,) bool. taught: (N,), the classes that the teacher predicts; None: agreement is not required.
    """
    run_id = of.run_id
    assert run_id is not None
    metrics = measured(run_id)
    predicted, labels = outcomes.predicted[kept], outcomes.labels[kept]
    return Candidate(
        name=name,
        correct=predicted == labels,
        labels=np.array(test.data.classes)[labels],
        classes=tuple(classes_of(run_id)),
        parameters=int(metrics[SIZE]),
        file_bytes=round(metrics["size/file_mb"] * 1e6),
        latency_ms=metrics[P50],
        confidences=outcomes.confidences[kept],
        agrees=None if taught is None else predicted == taught[kept],
    )


def _description(run_id: str) -> Description:
    """The description of a run's network; of an ensemble, of its first member."""
    members = tracking.get(run_id).tags.get(MEMBERS)
    return _description(json.loads(members)[0]) if members else read_description(tracking.artifact(run_id, NETWORK))


def _places(classes: list[str], data: DataReference) -> np.ndarray:
    """(K,), the number that each of a network's classes has in the data; they are matched by name."""
    return np.array([data.classes.index(name) if name in data.classes else UNKNOWN for name in classes])
