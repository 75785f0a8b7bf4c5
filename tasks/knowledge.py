"""distil_knowledge: what the teacher says about the data, computed once and kept with the teacher's run."""

import json
from collections.abc import Collection, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.data.augment import Augmentation
from kdmodels.device import find_device
from kdmodels.experiment import Experiment, Variant
from kdmodels.knowledge import LOGITS, Knowledge, LiveTeacher, load_knowledge, store_knowledge
from kdmodels.own_code import named_modules
from kdmodels.temporary import temporary_folder
from tasks import interruption, runs, tracking
from tasks.data import load
from tasks.references import DataReference, KnowledgeReference, TeacherReference
from tasks.results import COMPLETE, KNOWLEDGE
from tasks.steps import alone

VALIDATION = "validation"


@task(name="distil_knowledge", cache_policy=NO_CACHE)
def distil_teacher(
    teacher: TeacherReference,
    experiment: Experiment,
    data: DataReference,
    variants: Sequence[Variant],
    views: int,
) -> KnowledgeReference:
    """Compute what these variants need of the teacher and its run does not hold yet, a view at a time.

    Args:
        views: of each training image; 0: nothing is stored, the teacher is live.

    Raises:
        UserError: a variant taps a place that the teacher does not have.
    """
    tracking.configure()
    wanted = sorted({place for variant in variants for place in variant.teacher_places})
    if variants:
        with alone(f"knowledge of {teacher.run_id}"):
            _distil(teacher, experiment, data, wanted, views)
    return KnowledgeReference(teacher_run_id=teacher.run_id, taps=wanted, views=views)


def _distil(
    teacher: TeacherReference, experiment: Experiment, data: DataReference, wanted: list[str], views: int
) -> None:
    augmentation = Augmentation(data.data.augment, experiment.seed, views)
    found = find_device(experiment.device)
    for number in range(augmentation.views):
        interruption.check()
        missing = _missing(teacher.run_id, [LOGITS, *wanted], number)
        if not missing:
            continue
        network, _ = runs.recorded_network(teacher.run_id, named_modules(experiment))
        dataset = load(data)
        with temporary_folder() as folder:
            shown = augmentation.view(dataset.taught, number + 1)
            store_knowledge(network, shown, missing, folder / _view(number), device=found)
            if number == 0:
                store_knowledge(network, dataset.validation, missing, folder / VALIDATION, device=found)
            tracking.log_folder(teacher.run_id, folder, KNOWLEDGE)
        tracking.sync_artifacts(teacher.run_id)
        stored = _stored(teacher.run_id)
        complete = stored | {name: max(number + 1, stored.get(name, 0)) for name in missing}
        tracking.set_tags(teacher.run_id, {COMPLETE: json.dumps(complete, sort_keys=True)})


def load_both(
    reference: KnowledgeReference, places: Sequence[str], device: str, code: Collection[str]
) -> tuple[list[Knowledge], Knowledge] | tuple[LiveTeacher, LiveTeacher]:
    """The teacher's knowledge on the training and on the validation split, as far as these places go; or itself.

    Args:
        code: the modules that the user named, whose code a live teacher may run.
    """
    if reference.views == 0:
        network, _ = runs.recorded_network(reference.teacher_run_id, code)
        live = LiveTeacher(network, places, find_device(device))
        return live, live
    folder = tracking.artifact(reference.teacher_run_id, KNOWLEDGE)
    train = [load_knowledge(folder / _view(number), places) for number in range(reference.views)]
    return train, load_knowledge(folder / VALIDATION, places)


def _view(number: int) -> str:
    return f"train-view-{number}"


def _missing(run_id: str, names: Sequence[str], view: int) -> list[str]:
    stored = _stored(run_id)
    return [name for name in names if stored.get(name, 0) <= view]


def _stored(run_id: str) -> dict[str, int]:
    """By name, how many views are wholly stored."""
    views: dict[str, int] = json.loads(tracking.get(run_id).tags.get(COMPLETE, "{}"))
    return views
