"""Measurements on the test split.

Only this module calls `Dataset.read_test`, and only the tasks `promote_student`, `promote_generator` and
`measure_claims` use this module. The test `tests/flows/test_who_reads_the_test_split.py` enforces both rules.

The predictions of a network are stored with its run, so each network is measured once per test split. The tag
`kd.test_reads` of a comparison's run holds the number of times that the split was read for the comparison.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from kdmodels.data import Split
from kdmodels.data.likeness import descriptors, look_alike
from kdmodels.errors import UserError
from kdmodels.evaluation import metrics
from kdmodels.evaluation.calibration import expected_calibration_error
from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.costs import P50
from kdmodels.evaluation.predictions import by_class, confidences, macro, served_logits
from kdmodels.files.temporary import temporary_folder
from kdmodels.losses import ensemble_logits
from kdmodels.networks import read_description
from tasks import tracking
from tasks.legacy_models import model_of, models_of
from tasks.measure_costs import measured
from tasks.measure_metrics import metric_key
from tasks.prepare_data import is_trained_on, load
from tasks.references import DataReference, StudentReference
from tasks.results import NETWORK, SIZE
from tasks.served_models import run_model
from tasks.tracking.served import has_file, load_model
from tasks.tracking.tags import Tag

OUTCOMES = "test_outcomes.safetensors"  # artifact of a run: the predictions of the run's network on a test split
TRAINED = "trained_on.safetensors"  # artifact of a champion's run: descriptors of its training and validation images
DIGEST = "test_digest"  # metadata key of OUTCOMES: the digest of the test split
UNKNOWN = -1  # index that stands for a predicted class that the data do not have


@dataclass(frozen=True)
class HeldOut:
    """The test split of one comparison. The split is read from the data source when it is first needed.

    Attributes:
        data: The data of the students.
        comparison: The id of the comparison's or generation's run. This run records how often the split was read.
        code: The modules and files whose code the user allows to run. A model that has to be converted from stored
            weights may need them.
        record: Whether predictions are stored with the runs of the networks.
        metrics: The metrics of the experiment that are measured for students.
    """

    data: DataReference
    comparison: str
    code: Collection[str]
    record: bool
    metrics: tuple[str, ...] = ()

    @cached_property
    def split(self) -> Split:
        """The test split. Each `HeldOut` object reads it at most once."""
        tracking.set_tags(self.comparison, {Tag.TEST_READS: self.reads + 1})
        return load(self.data).read_test()

    @property
    def reads(self) -> int:
        """The number of times that the split was read for this comparison."""
        return int(tracking.get(self.comparison).tags.get(Tag.TEST_READS, 0))

    @property
    def digest(self) -> str:
        """The digest of the split's content."""
        return load(self.data).split_digests["test"]

    @property
    def sketch(self) -> tuple[int, ...]:
        """A small sample of hashes of the split's examples. Similar splits have similar sketches.

        See `kdmodels.evaluation.looks`.
        """
        return load(self.data).test_sketch

    @cached_property
    def trained(self) -> np.ndarray:
        """The descriptors of all images on which students are trained or validated: (M, 64) uint8.

        A descriptor is a small summary of an image. Copies of an image have similar descriptors.
        """
        data, transfer = load(self.data), self.data.data.transfer
        # A synthetic image that resembles a test image is not a copy. Noise does not depend on any image, and a
        # generator has seen only training images.
        others = None if transfer and transfer.made else data.transfer
        return descriptors(split for split in (data.train, data.validation, others) if split is not None)

    @cached_property
    def images(self) -> np.ndarray:
        """The descriptors of the test images: (N, 64) uint8."""
        return descriptors([self.split])


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The predictions of a network on the test split. All arrays except `logits` are (N,).

    Attributes:
        labels: The true classes, as indices of the data's classes.
        predicted: The predicted classes. `UNKNOWN` stands for a class that the data do not have.
        confidences: The probabilities of the predicted classes.
        seen: For each image, whether the network was trained or validated on a copy of the image, bool. `None` if this
            is unknown.
        logits: The logits, (N, K). `None` unless the metrics of the experiment need the logits.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidences: np.ndarray
    seen: np.ndarray | None
    logits: np.ndarray | None = None


def student_outcomes(student: StudentReference, test: HeldOut) -> Outcomes:
    """Return the predictions of a student's stored model on the test split.

    The stored model is used, because the source code of the network may have changed since the training.
    """
    assert student.run_id is not None
    run_id = student.run_id

    def logits() -> np.ndarray:
        return served_logits(model_of(run_id, load(test.data), test.code, record=test.record), test.split)

    return _outcomes(run_id, logits, test, lambda: look_alike(test.images, test.trained), has_metrics=True)


def champion_outcomes(champion: tracking.Version, test: HeldOut) -> Outcomes:
    """Return the predictions of the champion's registered model file on the test split.

    Raises:
        UserError: the champion cannot be compared on this test split, see `require_comparable`.
    """
    run_id = require_comparable(champion, test).run_id
    assert run_id is not None

    def logits() -> np.ndarray:
        return served_logits(load_model(champion.uri), test.split)

    return _outcomes(run_id, logits, test, lambda: seen_by_champion(run_id, test))


def seen_by_champion(run_id: str, test: HeldOut) -> np.ndarray | None:
    """Return, for each test image, whether a champion was trained or validated on a copy of the image, (N,) bool.

    If this is unknown, return `None`.
    """
    if is_trained_on(tracking.get(run_id), test.data):
        return look_alike(test.images, test.trained)
    if not tracking.has_artifact(run_id, TRAINED):
        return None
    return look_alike(test.images, load_file(tracking.artifact(run_id, TRAINED))["descriptors"])


def teacher_outcomes(run_id: str, test: HeldOut) -> Outcomes:
    """Return the predictions of a teacher's stored model on the test split.

    An ensemble predicts the mean of its members' class probabilities.
    """

    def logits() -> np.ndarray:
        models = models_of(run_id, load(test.data), test.code, record=False)
        values = np.stack([served_logits(model, test.split) for model in models], axis=1)  # (N, M, K)
        return ensemble_logits(torch.from_numpy(values)).numpy() if len(models) > 1 else values[:, 0]

    return _outcomes(run_id, logits, test, lambda: None)


def _outcomes(
    run_id: str,
    logits: Callable[[], np.ndarray],
    test: HeldOut,
    seen: Callable[[], np.ndarray | None],
    *,
    has_metrics: bool = False,
) -> Outcomes:
    """Return the predictions of a run's network on this test split.

    If the predictions are not stored, compute them. If `test.record` is set, also store them.

    Args:
        logits: A function that computes the network's logits for the test images, (N, K).
        seen: A function that computes `Outcomes.seen`.
        has_metrics: Whether the metrics of the experiment are measured for this network.
    """
    keeps_logits = has_metrics and bool(test.metrics)
    outcomes = _recorded(run_id, test.digest)
    is_complete = outcomes is not None and len(outcomes.labels) == test.data.examples["test"]
    if outcomes is None or not is_complete or (keeps_logits and outcomes.logits is None):
        outcomes = _computed(run_id, logits(), test, seen())
        if not keeps_logits:
            outcomes = replace(outcomes, logits=None)
        if test.record:
            _record(run_id, outcomes, test)
    if keeps_logits and test.record:
        _log(run_id, _scores(outcomes, test, _unseen(outcomes)))
    return outcomes


def _computed(run_id: str, logits: np.ndarray, test: HeldOut, seen: np.ndarray | None) -> Outcomes:
    return Outcomes(
        labels=test.split.labels.numpy(),
        predicted=_class_indices(_interface(run_id).classes, test.data)[logits.argmax(axis=1)],
        confidences=confidences(torch.from_numpy(logits)),
        seen=seen,
        logits=logits,
    )


def _recorded(run_id: str, digest: str) -> Outcomes | None:
    if not tracking.has_artifact(run_id, OUTCOMES):
        return None
    with safe_open(tracking.artifact(run_id, OUTCOMES), framework="numpy") as tensors:
        if tensors.metadata()[DIGEST] != digest:
            return None
        arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    return Outcomes(
        arrays["labels"], arrays["predicted"], arrays["confidences"], arrays.get("seen"), arrays.get("logits")
    )


def _record(run_id: str, outcomes: Outcomes, test: HeldOut) -> None:
    """Store the predictions with the run, and log test metrics.

    The metrics leave out test images that are copies of images on which the network was trained or validated. If all
    test images are copies, none is left out.
    """
    arrays = {name: value for name, value in vars(outcomes).items() if value is not None}
    with temporary_folder() as folder:
        save_file(arrays, folder / OUTCOMES, metadata={DIGEST: test.digest})
        tracking.log_folder(run_id, folder)
    _log(run_id, _figures(outcomes, test.data.classes))


def _log(run_id: str, figures: dict[str, float]) -> None:
    """Log test metrics. Metrics that the run already has with the same value are left out."""
    run = tracking.get(run_id)
    new = [(f"test/{metric_key(name)}", value, 0) for name, value in figures.items()]
    tracking.log_metrics(run_id, [row for row in new if run.metrics.get(row[0]) != row[1]])


def _unseen(outcomes: Outcomes) -> np.ndarray:
    """Return whether each image counts for the test metrics, (N,) bool."""
    if outcomes.seen is None or outcomes.seen.all():
        return np.ones(len(outcomes.labels), dtype=bool)
    return ~outcomes.seen


def _figures(outcomes: Outcomes, classes: list[str]) -> dict[str, float]:
    rows = _unseen(outcomes)
    labels, predicted = outcomes.labels[rows], outcomes.predicted[rows]
    return {
        "accuracy": float((predicted == labels).mean()),
        **macro(by_class(predicted, labels, classes)),
        "ece": expected_calibration_error(outcomes.confidences[rows], predicted == labels),
    }


def _scores(outcomes: Outcomes, test: HeldOut, rows: np.ndarray) -> dict[str, float]:
    """Return the values of the experiment's metrics on these rows, by name. Without logits, the result is empty."""
    if outcomes.logits is None or not test.metrics:
        return {}
    logits, labels = torch.from_numpy(outcomes.logits[rows]), torch.from_numpy(outcomes.labels[rows])
    return metrics.measure(test.metrics, logits, labels, test.data.classes)


def keep_trained(run_id: str, test: HeldOut) -> None:
    """Store, with a champion's run, a descriptor of each image on which the champion was trained or validated.

    A later comparison may use different data. The descriptors show which test images of the later comparison the
    champion has already seen. If the run already has descriptors, do nothing.

    Args:
        run_id: The id of the champion's run.
        test: The test split of the champion's dataset. The training and validation images are read from the same
            dataset.
    """
    if not tracking.has_artifact(run_id, TRAINED):
        with temporary_folder() as folder:
            save_file({"descriptors": test.trained}, folder / TRAINED)
            tracking.log_folder(run_id, folder)


def require_comparable(champion: tracking.Version, test: HeldOut) -> tracking.Version:
    """Return the champion, after checking that it can be compared on this test split.

    Raises:
        UserError: the champion was not made by kdflow, or takes images of another shape.
    """
    if champion.run_id is None or not (tracking.has_artifact(champion.run_id, NETWORK) or has_file(champion.uri)):
        raise UserError(
            f"model {champion.model}: its champion, version {champion.version}, was not made by kdflow and cannot be "
            "compared. Allowed: another promote.model"
        )
    shape = _interface(champion.run_id).input_shape
    if shape != test.data.input_shape:
        raise UserError(
            f"the champion, version {champion.version}, takes images of {shape}, but {test.data.data.source} has "
            f"{test.data.input_shape}. Allowed: another promote.model"
        )
    return champion


def classes_of(run_id: str) -> list[str]:
    """Return the classes that a run's network can predict."""
    return _interface(run_id).classes


def candidate(
    name: str,
    model: StudentReference | tracking.Version,
    outcomes: Outcomes,
    test: HeldOut,
    kept: np.ndarray,
    teacher_classes: np.ndarray | None = None,
) -> Candidate:
    """Return the predictions and costs of a network as a `Candidate`, which is the input of the promotion gate.

    The gate is the set of rules that decides whether a student becomes the champion.

    Args:
        name: The name of the network in the text of the verdict.
        model: The student, or the registered version of the champion.
        outcomes: The predictions of the network.
        test: The test split.
        kept: Whether each test example is used by the gate, (N,) bool.
        teacher_classes: The class that the teacher predicts for each test example, shape (N,). `None` if the student
            does not have to agree with the teacher.
    """
    run_id = model.run_id
    assert run_id is not None
    figures = measured(run_id)
    predicted, labels = outcomes.predicted[kept], outcomes.labels[kept]
    return Candidate(
        name=name,
        correct=predicted == labels,
        labels=np.array(test.data.classes)[labels],
        classes=tuple(classes_of(run_id)),
        parameters=int(figures[SIZE]),
        file_bytes=round(figures["size/file_mb"] * 1e6),
        latency_ms=figures[P50],
        confidences=outcomes.confidences[kept],
        agrees=None if teacher_classes is None else predicted == teacher_classes[kept],
        metrics=_scores(outcomes, test, kept) if isinstance(model, StudentReference) else {},
    )


@dataclass(frozen=True)
class _Interface:
    """The classes and the image shape (C, H, W) of a network."""

    classes: list[str]
    input_shape: tuple[int, int, int]


def _interface(run_id: str) -> _Interface:
    """Return the classes and the image shape of a run's network. For an ensemble, use its first member.

    A model that `kd register` stored consists of an ONNX file only.
    """
    members = tracking.get(run_id).tags.get(Tag.MEMBERS)
    if members:
        return _interface(json.loads(members)[0])
    if tracking.has_artifact(run_id, NETWORK):
        description = read_description(tracking.artifact(run_id, NETWORK))
        return _Interface(description.classes, description.input_shape)
    served = run_model(run_id)
    return _Interface(served.classes, served.input_shape)


def _class_indices(classes: list[str], data: DataReference) -> np.ndarray:
    """Return, for each class that a network predicts, the index of this class in `data.classes`, (K,).

    Classes are matched by name. If the data do not have a class, its index is `UNKNOWN`.
    """
    return np.array([data.classes.index(name) if name in data.classes else UNKNOWN for name in classes])
