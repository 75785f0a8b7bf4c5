"""prepare_data: load, split and check the dataset, and return a reference to it."""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from kdmodels.data import Dataset, load_dataset
from kdmodels.data.checks import require_unseen
from kdmodels.data.decoding import Progress
from kdmodels.data.files import listed
from kdmodels.data.published import has_files
from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment
from kdmodels.experiment.user_code import named_sources, require_named
from kdmodels.serving.generator_file import ServedGenerator
from tasks import tracking
from tasks.references import DataReference
from tasks.sample import find_generator
from tasks.stored_data import fetch_data
from tasks.tracking.served import load_generator
from tasks.tracking.tags import Tag

# The datasets, or folds of datasets, that this process loaded last. Each process loads its own copy, because only
# references are sent between processes.
_loaded: dict[tuple[str, str | None, int], Dataset] = {}
KEPT = 2  # number of kept datasets: the data of the students, and the data of a teacher that has its own data


@task(task_run_name="prepare_data {data.source}", cache_policy=NO_CACHE)
def prepare_data(data: Data, folder: str | None, quiet: bool = False, fold: int = 0) -> DataReference:
    """Load the dataset or one of its cross-validation folds, and return a reference to it.

    Args:
        folder: Folder of the data files. Default: $KD_DATA.
        quiet: Whether to hide the progress bar. A terminal shows the bar while images are decoded for the first time.
        fold: Number of the fold, counted from 0.
    """
    folder = folder or os.environ.get("KD_DATA") or None
    folder = str(Path(folder).absolute()) if folder else None
    data = pinned(data)
    generator = _generator(data)
    with _progress_bar(quiet) as on_progress:
        dataset = _load(data, folder, fold, generator, on_progress)
    return DataReference(
        data=data,
        folder=folder,
        digest=dataset.digest,
        training_digest=dataset.training_digest,
        distillation_digest=dataset.distillation_digest,
        examples={
            "train": len(dataset.train),
            "taught": len(dataset.distillation_split),
            **({"unlabelled": len(dataset.transfer)} if dataset.transfer else {}),
            "validation": len(dataset.validation),
            "test": dataset.test_examples,
        },
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        notes=dataset.notes,
        fold=fold,
        generator_digest=generator.digest if generator else None,
    )


def _generator(data: Data) -> ServedGenerator | None:
    return load_generator(find_generator(data.generator).uri) if data.generator else None


def pinned(data: Data) -> Data:
    """Return a copy of the data settings in which `data.transfer.generator` names a version by its number.

    A model name without a version stands for the current champion. With a version number, a run reads the same images
    even after the champion has changed.

    Raises:
        UserError: There is no such model, or it is not a generator.
    """
    if data.transfer is None or data.generator is None:
        return data
    try:
        uri = find_generator(data.generator).uri
    except UserError as error:
        raise type(error)(f"data.transfer.generator: {error}") from error
    return data.model_copy(update={"transfer": data.transfer.model_copy(update={"generator": uri})})


def with_teachers(data: DataReference, experiment: Experiment, read: Callable[[Data], DataReference]) -> DataReference:
    """Load the data of each teacher that has its own data, and check that the data fit the students' data.

    Args:
        data: The reference to the students' data.
        read: The function that loads data. It loads the same cross-validation fold as `data`.

    Returns:
        A copy of `data` whose field `teachers` refers to the loaded data.

    Raises:
        UserError: a teacher's data can't be read, or have other classes or another image shape than the students' data.
            The error is also raised if a teacher would be trained on validation or test images of the students.
    """
    references: list[DataReference] = []
    notes = list(data.notes)
    for member in experiment.teacher.members:
        if member.data is None or any(reference.is_of(member.data) for reference in references):
            continue
        try:
            reference = read(_with_size(member.data, data))
        except UserError as error:
            raise type(error)(f"teacher.{error}") from error
        _require_same_kind(reference, data)
        require_unseen(load(reference).prints, load(data).prints)
        notes += [f"teacher.data: {note}" for note in reference.notes if note not in data.notes]
        references.append(reference)
    return data.model_copy(update={"teachers": references, "notes": notes})


def _with_size(data: Data, students: DataReference) -> Data:
    """Return a teacher's data settings. If the source is not that of the students, set the students' image size."""
    if data.source == students.data.source:
        return data
    return data.model_copy(update={"size": list(students.input_shape[1:])})


def _require_same_kind(teacher: DataReference, students: DataReference) -> None:
    """Raise a UserError if the teacher's data have other classes or images of another shape than the students' data."""
    if teacher.classes != students.classes:
        raise UserError(
            f"teacher.data: {teacher.data.source} has the classes {listed(teacher.classes)}. "
            f"Allowed: those of {students.data.source}, {listed(students.classes)}"
        )
    if teacher.input_shape != students.input_shape:
        shape, allowed = ("x".join(map(str, each.input_shape)) for each in (teacher, students))
        raise UserError(
            f"teacher.data: {teacher.data.source} has images of {shape} (channels, height, width). "
            f"Allowed: {allowed}, as {students.data.source}"
        )


def find_training_data(
    comparison: tracking.Run, run: tracking.Run, folder: str | None, code: Collection[str]
) -> DataReference:
    """Return the data of a comparison on which a student was trained, or on which a teacher was validated.

    The data source is read from the recorded experiment. If the source is a function, `code` must contain the module of
    the function.

    Args:
        comparison: The run of the comparison. If `kd teacher` trained the teacher, the run of the teacher.
        run: The run of the teacher or student.
        folder: Folder of the data files. Default: the folder that the comparison read.
        code: The modules and files whose code the user allows to run.

    Raises:
        UserError: the data cannot be read, `code` lacks the module of the data source, or the data have changed.
    """
    experiment = Experiment.model_validate(tracking.read_json(comparison.run_id, "experiment.json"))
    for field, source in named_sources(experiment):
        is_read = field == "data.source" or run.kind == "teacher"
        if is_read and ":" in source:
            require_named(field, source.rpartition(":")[0], code)
    for fold in range(experiment.data.folds or 1):
        read = partial(prepare_data.fn, folder=folder or comparison.tags.get(Tag.DATA_DIR) or None, fold=fold)
        data = read(experiment.data)
        if run.kind == "teacher":
            data = with_teachers(data, experiment, read)
        if any(is_trained_on(run, each) for each in (data, *data.teachers)):
            return data
    raise UserError(
        f"{experiment.data.source}: {data.folder or 'the source'} holds other data than {run.name} was trained on, so "
        "examples that are held out here may have been used for training. Allowed: --data-dir with the same files."
    )


def is_trained_on(run: tracking.Run, data: DataReference) -> bool:
    """Return whether a teacher or student was trained and validated on this data."""
    digests = (data.training_digest, data.distillation_digest, data.digest)  # older runs recorded `digest`
    return run.params.get("data.digest") in digests


def load(reference: DataReference) -> Dataset:
    """Return the dataset that a reference identifies. The datasets that were loaded last are kept in memory.

    The source is read again if its files are on this machine. Otherwise, or if the files have changed, the dataset is
    fetched from the tracking store. It then has no test split.

    Raises:
        UserError: the source cannot be read, and the tracking store does not hold the dataset.
    """
    dataset = _loaded.get(_place(reference.data, reference.folder, reference.fold))
    if dataset is None or dataset.digest != reference.digest:
        dataset = _load_again(reference)
    return dataset


def _load_again(reference: DataReference) -> Dataset:
    problem: UserError | None = None
    try:
        if not has_files(reference.data.source, reference.folder):  # a worker does not download from the internet
            raise UserError(f"data.source: the files of {reference.data.source} are not on this machine")
        dataset = _load(reference.data, reference.folder, reference.fold, _generator(reference.data))
    except UserError as error:
        problem = error
    else:
        if dataset.digest == reference.digest:
            return dataset
        problem = UserError(
            f"{reference.data.source}: this worker reads other data ({dataset.digest[:12]}) than the flow did "
            f"({reference.digest[:12]})"
        )
    stored = fetch_data(reference)
    if stored is None:
        raise UserError(
            f"{problem}. The tracking store does not hold the data either. Allowed: the same files for all workers"
        ) from problem
    _keep(reference.data, reference.folder, reference.fold, stored)
    return stored


def _load(
    data: Data,
    folder: str | None,
    fold: int,
    generator: ServedGenerator | None,
    on_progress: Progress = lambda done, total: None,
) -> Dataset:
    dataset = load_dataset(data, Path(folder) if folder else None, on_progress, fold=fold, generator=generator)
    _keep(data, folder, fold, dataset)
    return dataset


def _keep(data: Data, folder: str | None, fold: int, dataset: Dataset) -> None:
    """Keep a dataset in memory, and drop the oldest of too many datasets."""
    place = _place(data, folder, fold)
    _loaded.pop(place, None)
    for oldest in list(_loaded)[: max(0, len(_loaded) + 1 - KEPT * (data.folds or 1))]:
        del _loaded[oldest]
    _loaded[place] = dataset


def _place(data: Data, folder: str | None, fold: int) -> tuple[str, str | None, int]:
    """Return the key under which a loaded dataset is kept. The key names the source of the data, not their content."""
    return data.model_dump_json(), folder, fold


@contextmanager
def _progress_bar(quiet: bool) -> Iterator[Progress]:
    """Provide a progress bar on stderr. The bar appears when the first image is decoded."""
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
