"""prepare_data: load, split, check and name the dataset."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from kdmodels.data import Dataset, load_dataset
from kdmodels.data.decoding import Progress
from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment
from kdmodels.own_code import require_named
from tasks import tracking
from tasks.references import DataReference

_loaded: dict[str, Dataset] = {}  # the latest of this process, or its folds, by digest


@task(cache_policy=NO_CACHE)
def prepare_data(data: Data, folder: str | None, quiet: bool = False, fold: int = 0) -> DataReference:
    """Load the dataset, or a fold of it, once in this process and return what names it; `folder` None means `$KD_DATA`.

    While images are decoded, which happens once, a terminal shows how far that is, unless `quiet`.
    """
    folder = folder or os.environ.get("KD_DATA") or None
    folder = str(Path(folder).absolute()) if folder else None
    with _decoding(quiet) as on_progress:
        dataset = _load(data, folder, fold, on_progress)
    return DataReference(
        data=data,
        folder=folder,
        digest=dataset.digest,
        training_digest=dataset.training_digest,
        examples={
            "train": len(dataset.train),
            "taught": len(dataset.taught),
            "validation": len(dataset.validation),
            "test": dataset.test_examples,
        },
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        notes=dataset.notes,
        fold=fold,
    )


def found_again(
    comparison: tracking.Run, run: tracking.Run, folder: str | None, code: Collection[str]
) -> DataReference:
    """The data that a comparison's teacher or student was trained on; `folder` None means where it lay then.

    Args:
        code: the modules and files that the user named. The experiment is the store's, so a function that it names as
            its source runs only if the user named its module.

    Raises:
        UserError: it can't be read, is the function of another module, or is other data by now.
    """
    experiment = Experiment.model_validate(tracking.read_json(comparison.run_id, "experiment.json"))
    if ":" in experiment.data.source:
        require_named("data.source", experiment.data.source.rpartition(":")[0], code)
    for fold in range(experiment.data.folds or 1):
        data = prepare_data.fn(experiment.data, folder or comparison.tags.get("kd.data_dir") or None, fold=fold)
        if is_trained_on(run, data):
            return data
    raise UserError(
        f"{experiment.data.source}: {data.folder or 'the source'} holds other data than {run.name} was trained on; "
        "what is held out there may have been learnt from; allowed: --data-dir with the same files"
    )


def is_trained_on(run: tracking.Run, data: DataReference) -> bool:
    """Whether a teacher's or student's run was trained and selected on these data."""
    return run.params.get("data.digest") in (data.training_digest, data.digest)  # older runs recorded the latter


def load(reference: DataReference) -> Dataset:
    """The dataset of a reference, read at most once in each process.

    Raises:
        RuntimeError: what this process reads is not what the reference names.
    """
    dataset = _loaded.get(reference.digest) or _load(reference.data, reference.folder, reference.fold)
    if dataset.digest != reference.digest:
        raise RuntimeError(
            f"{reference.data.source}: this worker reads other data ({dataset.digest[:12]}) than the flow did "
            f"({reference.digest[:12]}); give all workers the same files"
        )
    return dataset


def _load(data: Data, folder: str | None, fold: int, on_progress: Progress = lambda done, total: None) -> Dataset:
    dataset = load_dataset(data, Path(folder) if folder else None, on_progress, fold=fold)
    for digest in list(_loaded)[: max(0, len(_loaded) + 1 - (data.folds or 1))]:
        del _loaded[digest]
    _loaded[dataset.digest] = dataset
    return dataset


@contextmanager
def _decoding(quiet: bool) -> Iterator[Progress]:
    """A progress bar on stderr for the block, which appears when there is something to tell."""
    console = Console(stderr=True)
    columns = (TextColumn("decoding the images"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    task_id = bar.add_task("", total=None)

    def on_progress(done: int, total: int) -> None:
        bar.start()
        bar.update(task_id, completed=done, total=total)

    try:
        yield on_progress
    finally:
        bar.stop()
