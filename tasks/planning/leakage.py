"""The search for validation and test images of the students among the training images of a registered teacher."""

from collections.abc import Sequence

import numpy as np
from safetensors.numpy import load_file, save_file

from kdmodels.data.checks import count_trained, trained_images
from kdmodels.experiment import Experiment
from kdmodels.files.temporary import temporary_folder
from tasks import tracking
from tasks.prepare_data import is_trained_on, load
from tasks.references import DataReference

IMAGES = "training_images.safetensors"  # artifact of a registered teacher: the fingerprints of its training images
PRINTS = "fingerprints"  # name of the array in this artifact


def record_training_images(run_id: str, data: DataReference) -> None:
    """Store the fingerprints (hashes) of a teacher's training images as an artifact of the teacher's run.

    If the run already has the artifact, do nothing.
    """
    if not tracking.has_artifact(run_id, IMAGES):
        with temporary_folder() as folder:
            save_file({PRINTS: trained_images(load(data).prints)}, folder / IMAGES)
            tracking.log_folder(run_id, folder)


def check_registered_teachers(experiment: Experiment, folds: Sequence[DataReference]) -> tuple[list[str], list[str]]:
    """Check whether teachers from the registry were trained on validation or test images of the students.

    Two images count as equal only if all their pixels are equal.

    Args:
        folds: The data of each cross-validation fold. Without cross-validation, the list has one item.

    Returns:
        Notes on teachers whose training images are unknown, and warnings about teachers that were trained on validation
        or test images of the students.
    """
    notes, warnings = [], []
    for model in dict.fromkeys(member.registry for member in experiment.teacher.members if member.registry):
        run_id = tracking.find_model(model).run_id
        assert run_id is not None
        if tracking.has_artifact(run_id, IMAGES):
            warnings += _warnings(model, load_file(tracking.artifact(run_id, IMAGES))[PRINTS], folds)
        elif not all(_is_trained_on(tracking.get(run_id), data) for data in folds):
            reason = "its run does not record its training images"
            notes.append(f"teacher.registry: {model} may have been trained on the validation examples: {reason}")
    return notes, warnings


def _warnings(model: str, trained: np.ndarray, folds: Sequence[DataReference]) -> list[str]:
    """Check the students' validation and test split. Return a warning for each split with training images of a teacher.

    With cross-validation, the validation images of all folds are counted together. All folds have the same test split.

    Args:
        model: The registered model of the teacher.
        trained: The fingerprints of the teacher's training images.
        folds: The data of each cross-validation fold.
    """
    prints = [load(data).prints for data in folds]
    students = {"validation": np.concatenate([each["validation"] for each in prints]), "test": prints[0]["test"]}
    return [
        f"teacher.registry: {model} was trained on {count} of the {len(students[split])} {split} images of the "
        f"students. The {split} accuracies of the teacher and of distilled students may be too high. Use a teacher "
        "whose training data hold out these images"
        for split, count in count_trained(trained, students).items()
        if count
    ]


def _is_trained_on(run: tracking.Run, data: DataReference) -> bool:
    """Return whether a run trained its network on the training split of this data."""
    is_read = any(name == "checkpoint" or name.startswith("registry.") for name in run.params)
    return not is_read and is_trained_on(run, data)
