"""Export of a stored network to a file for another runtime.

The original and the exported model are compared on validation examples.
"""

import json
import os
from collections.abc import Collection
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from kdmodels.errors import UserError
from kdmodels.files.atomic import SHARED, write_whole
from kdmodels.networks import load_network
from kdmodels.networks.storage import WEIGHTS
from kdmodels.randomness import generator_for
from kdmodels.serving import export as formats
from tasks import tracking
from tasks.legacy_models import model_of
from tasks.prepare_data import find_training_data, load
from tasks.results import NETWORK
from tasks.tracking.tags import Tag

CALIBRATION = 512  # number of training images that calibrate the value ranges of an int8 model


class ExportReport(BaseModel):
    """The result of an export, with a comparison of the exported and the original model on the validation split.

    Attributes:
        format: The file format, a key of `kdmodels.serving.export.SUFFIXES`.
        file_mb: Size of the file with the stored weights in MB.
        exported_file_mb: Size of the exported file in MB.
        examples: Number of validation examples.
        agreement: Share of the examples for which both models predict the same class.
        largest_difference: Largest absolute difference between the logits of the two models.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    format: str
    file: str
    file_mb: float
    exported_file_mb: float
    examples: int
    accuracy: float
    exported_accuracy: float
    agreement: float
    largest_difference: float


def find(word: str) -> tuple[tracking.Run, str]:
    """Return the run of the teacher or student that the user means, and a file name without suffix for the export.

    Args:
        word: A registered model (`name`, `name@alias` or `name/3`) or a run. If the run is a comparison, the run of its
            winner is returned.

    Raises:
        UserError: the model or run does not exist, is an ensemble, or holds no network of kdflow.
    """
    tracking.configure()
    try:
        version = tracking.find_model(word)
    except UserError as error:
        run = _run_or(word, error)
        name = run.name.replace("/", "-of-")  # a run of a cross-validation fold has a slash in its name: kd 2/5
    else:
        run, name = tracking.run_of_version(version), f"{version.model}-{version.version}"
    if Tag.MEMBERS in run.tags:
        members = ", ".join(member[:8] for member in json.loads(run.tags[Tag.MEMBERS]))
        raise UserError(f"run {run.name} is an ensemble; allowed: one of its members, {members}")
    if not tracking.has_artifact(run.run_id, NETWORK):
        raise UserError(f"run {run.name} ({run.status}) holds no network; allowed: a finished teacher or student")
    return run, name


def _run_or(word: str, no_model: UserError) -> tracking.Run:
    """Return the run that the user named. If the run is a comparison, return the run of its winner.

    Args:
        word: The name or id of a run.
        no_model: The error of the earlier search for a model with this name. If there is no such run either, the
            message of this error becomes part of the new message.
    """
    try:
        run = tracking.find(word)
    except UserError:
        raise UserError(f"{no_model}, or a RUN") from None
    if run.kind != "comparison":
        return run
    if Tag.WINNER_RUN not in run.tags:
        raise UserError(f"run {run.name} has no winner: none of its students finished") from None
    return tracking.get(run.tags[Tag.WINNER_RUN])


def new_file(out: Path | None, name: str, kind: str) -> Path:
    """Return the path of the exported file: `out`, or by default a file in the working directory.

    Args:
        out: The path that the user chose.
        name: The default file name, without suffix.
        kind: The file format, a key of `kdmodels.serving.export.SUFFIXES`.

    Raises:
        UserError: the file exists already, its folder does not exist, or its suffix does not fit the format.
    """
    suffix = formats.SUFFIXES[kind]
    file = out or Path(f"{name}{suffix}")
    ending = f".{suffix.rpartition('.')[2]}"
    if file.suffix != ending:
        raise UserError(f"--out {file}: the name does not fit the format. Allowed: a name that ends with {ending}")
    if os.path.lexists(file):  # true for a broken link too
        raise UserError(f"{file}: exists already. Choose another file name")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    return file


def export(
    run: tracking.Run, kind: str, file: Path, *, data_dir: str | None = None, code: Collection[str] = ()
) -> ExportReport:
    """Export the stored model of a run to a new file, and compare both models on the validation split.

    The file is written completely or not at all.

    Args:
        kind: The file format, a key of `kdmodels.serving.export.SUFFIXES`.
        data_dir: The folder of the data files. Default: the folder that the comparison read.
        code: The modules and files whose code the user allows to run. The stored network and the data source may need
            them.

    Raises:
        UserError: the data can't be read, kdflow refuses to load or export the model, or the file can't be written.
    """
    recorded_in = tracking.get(run.parent) if run.parent else run  # a teacher of `kd teacher` has no comparison
    dataset = load(find_training_data(recorded_in, run, data_dir, code))
    stored = tracking.artifact(run.run_id, NETWORK)
    served = model_of(run.run_id, dataset, code, record=False)
    comparison: dict[str, float] = {}

    def write(partial: Path) -> None:
        if kind == "onnx":
            exported = formats.write_onnx(served, partial)
        elif kind == "int8":
            chosen = torch.randperm(len(dataset.train), generator=generator_for(0, "calibration"))[:CALIBRATION]
            exported = formats.write_int8(served, partial, dataset.train.batch(chosen))
        else:
            exported = formats.write_pt2(load_network(stored, code)[0], partial, served.input_shape)
        comparison.update(formats.compare(served, exported, dataset.validation))

    try:
        write_whole(file, write, mode=SHARED)
    except OSError as error:
        raise UserError(f"{file}: can't be written: {error.strerror}") from error
    sizes = {"file_mb": (stored / WEIGHTS).stat().st_size / 1e6, "exported_file_mb": file.stat().st_size / 1e6}
    return ExportReport.model_validate({"run_id": run.run_id, "format": kind, "file": str(file), **sizes, **comparison})
