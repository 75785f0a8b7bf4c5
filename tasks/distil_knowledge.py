"""distil_knowledge: compute the teacher's outputs for the data once, and store them with the teacher's run."""

import json
from collections.abc import Collection, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import JsonValue
from torch import Tensor

from kdmodels.data import Split
from kdmodels.data.augment import Augmentation, View
from kdmodels.device import find_device
from kdmodels.errors import UserError
from kdmodels.experiment.user_code import named_modules
from kdmodels.files.temporary import temporary_folder
from kdmodels.knowledge import LOGITS, Knowledge, LiveTeacher, knowledge_files, load_knowledge, store_knowledge
from kdmodels.versions import versions
from tasks import tracking
from tasks import training_runs as runs
from tasks.cross_validation import Fold
from tasks.execution import interruption
from tasks.execution.locks import copy_lock, exclusive
from tasks.execution.team_locks import team_exclusive
from tasks.planning.keys import augment_sources, digest
from tasks.prepare_data import load
from tasks.references import KnowledgeReference, TeacherReference
from tasks.results import KNOWLEDGE
from tasks.tracking.tags import Tag

VALIDATION = "validation"
IMAGES_DIGITS = 12  # number of digits of the images' digest in a folder name, see `_folder`


@task(task_run_name="distil_knowledge {fold.plan.teacher.name}", cache_policy=NO_CACHE)
def distil_knowledge(teacher: TeacherReference, fold: Fold) -> KnowledgeReference:
    """Compute the teacher's outputs that the variants of a fold need, and store them with the teacher's run.

    The outputs, called the teacher's knowledge, are logits and the features of some layers. Outputs that the teacher's
    run already holds are not computed again.

    Raises:
        UserError: a variant needs the features of a layer that the teacher does not have, or some of the teacher's
            outputs are NaN or infinite.
    """
    tracking.configure()
    variants, views = fold.distilled_variants, fold.plan.knowledge.count
    places = sorted({place for variant in variants for place in variant.teacher_places})
    reference = KnowledgeReference(teacher_run_id=teacher.run_id, taps=places, views=views, folder=_folder(fold))
    if variants:
        with team_exclusive(f"knowledge of {teacher.run_id}"):
            computed = _store_missing(reference, fold)
        return reference.model_copy(update={"reused": not computed})
    return reference


def _folder(fold: Fold) -> str:
    """Return the artifact folder that holds the teacher's outputs for the students' images.

    Usually, all students of a teacher have the same images, which the key of the teacher's run determines. In two
    cases, students of another comparison may have different images:

    - The teacher is a single network with its own data or augmentations.
    - The students also learn from unlabelled images.

    In these cases, the name of the folder contains a digest of the images.
    """
    experiment = fold.experiment
    teacher, data, augment = experiment.teacher, fold.data, experiment.student_augment
    has_images_of_students = teacher.data is None and experiment.teacher_augment(teacher) == augment
    if data.distillation_digest == data.training_digest and (teacher.ensemble or has_images_of_students):
        return KNOWLEDGE  # the key of the teacher's run determines the images
    operations: list[JsonValue] = [operation.model_dump(mode="json") for operation in augment]
    code: dict[str, JsonValue] = {**versions(None, augment=augment), **augment_sources(augment)}
    images = digest([data.distillation_digest, operations, experiment.seed if augment else None, code])
    return f"{KNOWLEDGE}/{images[:IMAGES_DIGITS]}"


def _store_missing(reference: KnowledgeReference, fold: Fold) -> int:
    """Compute and store the missing outputs of the teacher, one view at a time. Return the number of computed views.

    A view is one augmented version of each training image. If `reference.views` is 0, nothing is computed here, because
    the outputs are computed while a student is trained.
    """
    run_id = reference.teacher_run_id
    augmentation = Augmentation(fold.experiment.student_augment, fold.experiment.seed, reference.views)
    device, computed = find_device(fold.experiment.device), 0
    for number in range(augmentation.views):
        interruption.check()
        missing = _missing(reference, number)
        if not missing:
            continue
        network, _ = runs.recorded_network(run_id, named_modules(fold.experiment))
        dataset = load(fold.data)
        with temporary_folder() as folder:
            splits: dict[str, Split | View] = {_view(number): augmentation.view(dataset.distillation_split, number + 1)}
            if number == 0:
                splits[VALIDATION] = dataset.validation
            for name, split in splits.items():
                try:
                    store_knowledge(network, split, missing, folder / name, device=device)
                except UserError as error:
                    raise UserError(f"{fold.plan.teacher.name}: {error}") from error
            tracking.log_checked_folder(run_id, folder, reference.folder)
        tracking.sync_artifacts(run_id)
        stored = _stored(run_id)
        names = [_tag_name(reference, name) for name in missing]
        complete = stored | {name: max(number + 1, stored.get(name, 0)) for name in names}
        tracking.set_tags(run_id, {Tag.KNOWLEDGE: json.dumps(complete, sort_keys=True)})
        computed += 1
    return computed


def load_both(
    reference: KnowledgeReference, places: Sequence[str], device: str, code: Collection[str]
) -> tuple[list[Knowledge], Knowledge] | tuple[LiveTeacher, LiveTeacher]:
    """Return the teacher's knowledge: its outputs for the training split and for the validation split.

    If the knowledge is on a server, each machine downloads it once.

    Args:
        places: The layers of the teacher whose features are needed.
        code: The modules and files whose code the user allows to run. The teacher's network may need this code if the
            outputs are not stored.

    Returns:
        A pair. The first item holds the knowledge for each view of the training split. A view is one augmented version
        of each image. The second item holds the knowledge for the validation split. If no views are stored, both items
        are the same live teacher, which computes its outputs when they are needed.
    """
    if reference.views == 0:
        network, _ = runs.recorded_network(reference.teacher_run_id, code)
        live = LiveTeacher(network, places, find_device(device))
        return live, live
    splits = [*(_view(number) for number in range(reference.views)), VALIDATION]
    files = [f"{split}/{file}" for split in splits for file in knowledge_files(places)]
    with exclusive(copy_lock(reference.teacher_run_id)):
        folder = tracking.machine_copy(reference.teacher_run_id, reference.folder, files)
        train = [load_knowledge(folder / _view(number), places) for number in range(reference.views)]
        return train, load_knowledge(folder / VALIDATION, places)


def validation_logits(run_id: str, fold: Fold) -> Tensor | None:
    """Return a teacher's stored logits for the validation images of a fold. If they are not stored, return `None`.

    Args:
        run_id: The id of the teacher's run.

    Returns:
        The logits in float16, shape (N, K), or (N, M, K) for an ensemble of M members.
    """
    folder, (file,) = _folder(fold), knowledge_files([])
    if not tracking.has_artifact(run_id, f"{folder}/{VALIDATION}/{file}"):
        return None
    with exclusive(copy_lock(run_id)):
        copy = tracking.machine_copy(run_id, folder, [f"{VALIDATION}/{file}"])
        return load_knowledge(copy / VALIDATION, []).logits


def _view(number: int) -> str:
    """Return the name of the folder that holds the teacher's outputs for one view of the training images."""
    return f"train-view-{number}"


def _missing(reference: KnowledgeReference, view: int) -> list[str]:
    """Return the names of the needed outputs that are not yet stored for one view of the training images.

    Args:
        view: The number of the view, counted from 0.
    """
    stored = _stored(reference.teacher_run_id)
    return [name for name in (LOGITS, *reference.taps) if stored.get(_tag_name(reference, name), 0) <= view]


def _tag_name(reference: KnowledgeReference, name: str) -> str:
    """Return the name under which the tag `Tag.KNOWLEDGE` of the teacher's run lists an output.

    If `_folder` returned a subfolder for these images, the name starts with the name of the subfolder.
    """
    return f"{reference.folder}/{name}".removeprefix(f"{KNOWLEDGE}/")


def _stored(run_id: str) -> dict[str, int]:
    """Return how many views of each teacher output are completely stored, by the output's name in the tag."""
    views: dict[str, int] = json.loads(tracking.get(run_id).tags.get(Tag.KNOWLEDGE, "{}"))
    return views
