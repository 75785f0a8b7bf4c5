"""prepare_data: load, split and name the dataset."""

import os
from functools import lru_cache
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.data import Dataset, load_dataset
from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment
from tasks import tracking
from tasks.references import DataReference


@task(cache_policy=NO_CACHE)
def prepare_data(data: Data, folder: str | None) -> DataReference:
    """Load the dataset once in this process and return what names it; `folder` None means `$KD_DATA`."""
    folder = folder or os.environ.get("KD_DATA") or None
    folder = str(Path(folder).absolute()) if folder else None
    dataset = _load(data, folder)
    return DataReference(
        data=data,
        folder=folder,
        digest=dataset.digest,
        examples={"train": len(dataset.train), "validation": len(dataset.validation), "test": dataset.test_examples},
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
    )


def found_again(comparison: tracking.Run, run: tracking.Run, folder: str | None) -> DataReference:
    """The data that a comparison's teacher or student was trained on; `folder` None means where it lay then.

    Raises:
        UserError: it can't be read, or is other data by now.
    """
    experiment = Experiment.model_validate(tracking.read_json(comparison.run_id, "experiment.json"))
    data = prepare_data.fn(experiment.data, folder or comparison.tags.get("kd.data_dir") or None)
    if run.params["data.digest"] != data.digest:
        raise UserError(
            f"{experiment.data.source}: {data.folder or 'the source'} holds other data than {run.name} was trained on; "
            "what is held out there may have been learnt from; allowed: --data-dir with the same files"
        )
    return data


def load(reference: DataReference) -> Dataset:
    """The dataset of a reference, read at most once in each process.

    Raises:
        RuntimeError: what this process reads is not what the reference names.
    """
    dataset = _load(reference.data, reference.folder)
    if dataset.digest != reference.digest:
        raise RuntimeError(
            f"{reference.data.source}: this worker reads other data ({dataset.digest[:12]}) than the flow did "
            f"({reference.digest[:12]}); give all workers the same files"
        )
    return dataset


@lru_cache(maxsize=2)
def _load(data: Data, folder: str | None) -> Dataset:
    return load_dataset(data, Path(folder) if folder else None)
