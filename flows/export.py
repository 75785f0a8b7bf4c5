"""`kd export`: a stored network as a file for another runtime, checked against the original on real examples."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from kdmodels import export as formats
from kdmodels.durable import SHARED, write_whole
from kdmodels.errors import UserError
from kdmodels.networks import load_network
from kdmodels.networks.storage import WEIGHTS
from kdmodels.randomness import stream
from tasks import tracking
from tasks.data import found_again, load
from tasks.restored import model_of
from tasks.results import MEMBERS, NETWORK

CALIBRATION = 512  # training images that show the ranges of a network's outputs


def find(word: str) -> tuple[tracking.Run, str]:
    """The teacher's or student's run that holds a MODEL, or that a RUN is (a comparison: its winner's), and its name.

    Raises:
        UserError: there is no such model or run, or it holds no network of kdflow's.
    """
    tracking.configure()
    try:
        version = tracking.find_model(word)
    except UserError as error:
        try:
            run = tracking.find(word)
        except UserError:
            raise UserError(f"{error}, or a RUN") from None
        if run.kind == "comparison":
            if "kd.winner_run" not in run.tags:
                raise UserError(f"run {run.name} has no winner: none of its students finished") from None
            run = tracking.get(run.tags["kd.winner_run"])
        name = run.name.replace("/", "-of-")  # of a fold: kd 2/5
    else:
        if version.run_id is None:
            raise UserError(f"model {word!r} was not made by kdflow; allowed: a model of a kd run")
        run, name = tracking.get(version.run_id), f"{version.model}-{version.version}"
    if MEMBERS in run.tags:
        members = ", ".join(member[:8] for member in json.loads(run.tags[MEMBERS]))
        raise UserError(f"run {run.name} is an ensemble; allowed: one of its members, {members}")
    if run.parent is None or not tracking.has_artifact(run.run_id, NETWORK):
        raise UserError(f"run {run.name} ({run.status}) holds no network; allowed: a finished teacher or student")
    return run, name


def new_file(out: Path | None, name: str, kind: str) -> Path:
    """The file to be written: the one asked for, or one of the model's name in this folder.

    Raises:
        UserError: it is there already, its folder is not, or its suffix is not the format's.
    """
    suffix = formats.SUFFIXES[kind]
    file = out or Path(f"{name}{suffix}")
    ending = f".{suffix.rpartition('.')[2]}"
    if file.suffix != ending:
        raise UserError(f"--out {file}: is not a name for this format; allowed: one that ends with {ending}")
    if os.path.lexists(file):  # also a link to nothing
        raise UserError(f"{file}: exists already; allowed: a new file")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    return file


def export(
    run: tracking.Run, kind: str, file: Path, *, data_dir: str | None = None, code: Collection[str] = ()
) -> dict[str, Any]:
    """Write the run's stored model to a new file, whole or not at all, and compare it with the model on validation.

    Args:
        kind: one of `kdmodels.export.SUFFIXES`. data_dir: the folder of the data's files; None is where they lay.
        code: the modules that the user named, whose code the stored network or data source may run.
    Returns:
        run_id, format, file, file_mb and exported_file_mb (of the stored weights and of the new file), and what
        `kdmodels.export.compare` says of the two on the validation split.
    Raises:
        UserError: the data can't be read, the model is refused, or the file can't be written.
    """
    assert run.parent is not None
    dataset = load(found_again(tracking.get(run.parent), run, data_dir, code))
    stored = tracking.artifact(run.run_id, NETWORK)
    served = model_of(run.run_id, dataset, code, record=False)
    figures: dict[str, float] = {}

    def write(partial: Path) -> None:
        if kind == "onnx":
            exported = formats.write_onnx(served, partial)
        elif kind == "int8":
            chosen = torch.randperm(len(dataset.train), generator=stream(0, "calibration"))[:CALIBRATION]
            exported = formats.write_int8(served, partial, dataset.train.batch(chosen))
        else:
            exported = formats.write_pt2(load_network(stored, code)[0], partial, served.input_shape)
        figures.update(formats.compare(served, exported, dataset.validation))

    try:
        write_whole(file, write, mode=SHARED)
    except OSError as error:
        raise UserError(f"{file}: can't be written: {error.strerror}") from error
    sizes = {"file_mb": (stored / WEIGHTS).stat().st_size / 1e6, "exported_file_mb": file.stat().st_size / 1e6}
    return {"run_id": run.run_id, "format": kind, "file": str(file), **sizes, **figures}
