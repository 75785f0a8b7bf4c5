"""distil_knowledge: what the teacher says about the data, computed once and kept with the teacher's run."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.device import find_device
from kdmodels.experiment import Variant
from kdmodels.knowledge import LOGITS, Knowledge, distil_knowledge, load_knowledge, save_knowledge
from kdmodels.networks import load_network
from tasks import tracking
from tasks.data import load
from tasks.references import DataReference, KnowledgeReference, TeacherReference
from tasks.results import NETWORK

FOLDER = "knowledge"
SPLITS = ("train", "validation")
COMPLETE = "kd.knowledge"  # the tag that names what is wholly stored, set after the files


@task(name="distil_knowledge", cache_policy=NO_CACHE)
def distil_teacher(
    teacher: TeacherReference, data: DataReference, variants: Sequence[Variant], device: str
) -> KnowledgeReference:
    """Compute what these variants need of the teacher and its run does not hold yet.

    Args:
        device: the experiment's.

    Raises:
        UserError: a variant taps a place that the teacher does not have.
    """
    tracking.configure()
    wanted = sorted({place for variant in variants for place in variant.teacher_places})
    have = _stored(teacher.run_id)
    missing = [name for name in (LOGITS, *wanted) if name not in have]
    if variants and missing:
        network, _ = load_network(tracking.artifact(teacher.run_id, NETWORK))
        dataset, places = load(data), [at for at in missing if at != LOGITS]
        with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
            for name, split in zip(SPLITS, (dataset.train, dataset.validation), strict=True):
                knowledge = distil_knowledge(network, split, places, device=find_device(device))
                save_knowledge(knowledge, Path(folder) / name)
                for known in _stored(teacher.run_id):  # another run may have it mapped: never write it again
                    (Path(folder) / name / f"{known}.npy").unlink(missing_ok=True)
            tracking.log_folder(teacher.run_id, Path(folder), FOLDER)
        tracking.set_tags(teacher.run_id, {COMPLETE: json.dumps(sorted({*_stored(teacher.run_id), *missing}))})
    return KnowledgeReference(teacher_run_id=teacher.run_id, taps=wanted)


def load_both(reference: KnowledgeReference, places: Sequence[str]) -> tuple[Knowledge, Knowledge]:
    """The teacher's knowledge on the training and on the validation split, as far as these places go."""
    folder = tracking.artifact(reference.teacher_run_id, FOLDER)
    train, validation = (load_knowledge(folder / split, places) for split in SPLITS)
    return train, validation


def _stored(run_id: str) -> list[str]:
    names: list[str] = json.loads(tracking.get(run_id).tags.get(COMPLETE, "[]"))
    return names
