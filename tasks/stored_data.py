"""Prepared datasets in the tracking store, for workers on machines that do not have the files of the data source.

A comparison stores its dataset only if its students may be trained on other machines, i.e. if the tracking store is
shared and the runner is a Ray or Dask cluster. In all other cases, the process that trains a student can read the
source itself, and a copy in the store would only cost time. A dataset that the store already holds is not stored again.

The test split is never stored. See `kdmodels.data.packed` for the files.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np

from kdmodels.data import Dataset
from kdmodels.data.decoding import fingerprints, read_array, require_room
from kdmodels.data.packed import POOL_DIGITS, Table, pack, read_table, write_table
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.files.atomic import sync, write_whole
from kdmodels.files.folders import private_folder
from kdmodels.files.temporary import temporary_folder
from tasks import tracking
from tasks.execution import interruption
from tasks.execution.clusters import CLUSTERS
from tasks.execution.locks import copy_lock, exclusive
from tasks.execution.team_locks import team_exclusive
from tasks.references import DataReference
from tasks.results import DATA
from tasks.tracking.tags import Tag

CHUNK_BYTES = 2**26  # size of one file of pixels; if a download is interrupted, at most one file is downloaded again
DIGITS = 32  # number of digits of a distillation digest in names
PIXELS = "pixels.npy"  # file of a machine's copy: the pixels of all images
UNFINISHED = "unfinished.npy"  # the same file while it is being downloaded


def is_needed(experiment: Experiment) -> bool:
    """Return whether students of an experiment may be trained on machines that lack the files of the data source."""
    return tracking.is_shared() and experiment.runner.kind in CLUSTERS


def store_data(dataset: Dataset, run_id: str) -> None:
    """Store a dataset without its test split as artifacts of a run. If any run stores the dataset, do nothing."""
    name = dataset.distillation_digest[:DIGITS]
    with team_exclusive(f"data {name}"):
        if tracking.data_holder(name):
            return
        table, read = pack(dataset, CHUNK_BYTES)
        stored: dict[str, str] = json.loads(tracking.get(run_id).tags.get(Tag.STORED_DATA, "{}"))
        folder = f"{DATA}/{table.pool}"
        if table.pool not in stored.values():
            for number, (begin, end) in enumerate(_chunks(table)):
                interruption.check()
                with temporary_folder() as local:
                    np.save(local / _chunk_file(number), read(begin, end))
                    tracking.log_folder(run_id, local, folder)
        with temporary_folder() as local:
            write_table(table, local / _table_file(name))
            tracking.log_folder(run_id, local, folder)
        tracking.sync_artifacts(run_id)
        tracking.set_tags(run_id, {Tag.STORED_DATA: json.dumps({**stored, name: table.pool})})


def fetch_data(reference: DataReference) -> Dataset | None:
    """Return a dataset from the tracking store, without its test split. If the store lacks the dataset, return `None`.

    Each machine downloads the dataset once. An interrupted download continues where it stopped. Every image is compared
    with its fingerprint, and the fingerprints are compared with the digest in the reference.

    Raises:
        UserError: A stored file is damaged, or the disk has no room for the images.
    """
    name = reference.distillation_digest[:DIGITS]
    holder = tracking.data_holder(name)
    if holder is None:
        return None
    pool = json.loads(holder.tags[Tag.STORED_DATA])[name]
    if not re.fullmatch(f"[0-9a-f]{{{POOL_DIGITS}}}", pool):  # the name becomes a path on this machine
        raise UserError(f"run {holder.run_id!r}: its tag {Tag.STORED_DATA} names the images {pool!r}, not a digest")
    with exclusive(copy_lock(pool)):
        folder = private_folder(downloads() / pool)
        table = _table(holder.run_id, folder / _table_file(name), reference.distillation_digest)
        if table.pool != pool:
            raise UserError(f"run {holder.run_id!r}: {DATA}/{pool} holds other images than its name says")
        if not (folder / PIXELS).exists():
            _download(holder.run_id, table, folder)
        (folder / PIXELS).touch()  # `kd gc` reads the time of the last use
        return table.dataset(read_array(folder / PIXELS, mapped=True), reference.digest)


def downloads() -> Path:
    """Return the folder that holds this machine's copies of stored datasets. Each pool of images has a subfolder."""
    return tracking.machine_folder("data")


def _table(run_id: str, file: Path, digest: str) -> Table:
    """Return the table of a dataset from a file on this machine. If there is no file, download the table first."""
    if not file.exists():
        with tracking.fetched(run_id, f"{DATA}/{file.parent.name}/{file.name}") as copy:
            read_table(copy, digest)
            write_whole(file, lambda partial: shutil.copyfile(copy, partial))
    return read_table(file, digest)


def _download(run_id: str, table: Table, folder: Path) -> None:
    """Download the pixels of a dataset into a folder. Images from an interrupted download are not downloaded again."""
    shape, dtype = (len(table.prints), *table.facts.shape), np.dtype(table.facts.dtype)
    file = folder / UNFINISHED
    is_new = not file.exists()
    if is_new:
        require_room(folder, int(np.prod(shape)) * dtype.itemsize, f"the images of {table.facts.source}")
        write_whole(file, lambda partial: np.lib.format.open_memmap(partial, "w+", dtype, shape))
    pixels = np.lib.format.open_memmap(file, "r+")
    for number, (begin, end) in enumerate(_chunks(table)):
        interruption.check()
        prints = table.prints[begin:end]
        if not is_new and np.array_equal(fingerprints(pixels[begin:end]), prints):
            continue
        path = f"{DATA}/{folder.name}/{_chunk_file(number)}"
        with tracking.fetched(run_id, path) as copy:
            images = read_array(copy)
        if images.shape != (end - begin, *shape[1:]) or not np.array_equal(fingerprints(images), prints):
            raise UserError(f"run {run_id!r}: its file {path!r} is damaged: an image differs from its fingerprint")
        pixels[begin:end] = images
    pixels.flush()
    sync(file)
    file.rename(folder / PIXELS)


def _chunks(table: Table) -> list[tuple[int, int]]:
    """Return the first row in the pool, and the row after the last, of each file of pixels."""
    count, size = len(table.prints), table.facts.chunk
    return [(begin, min(begin + size, count)) for begin in range(0, count, size)]


def _table_file(name: str) -> str:
    return f"{name}.safetensors"


def _chunk_file(number: int) -> str:
    return f"pixels-{number:05}.npy"
