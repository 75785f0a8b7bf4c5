"""Functions that store and read the artifacts of a run, which are files and folders."""

import functools
import glob
import hashlib
import json
import multiprocessing.util
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from kdmodels.errors import UserError
from kdmodels.files.atomic import sync
from kdmodels.files.folders import private_folder
from kdmodels.files.temporary import temporary_folder
from tasks.tracking.alive import machine_folder
from tasks.tracking.mlflow_internals import local_path

PART_BYTES = 256 * 2**20  # an upload of 800 MB or more through an MLflow server times out
_BLOCK_BYTES = 2**20
_UNFINISHED = ".unfinished"  # name of the folder with the downloaded parts of incomplete files
CHECKSUMS = "checksums.json"  # file in an artifact folder: the SHA-256 checksums of the other files
PART = ".part-"  # large files are split into parts, e.g. model.onnx.part-0000

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def log_text(run_id: str, path: str, text: str) -> None:
    """Store a text as an artifact of a run."""
    MlflowClient().log_text(run_id, text, path)


def log_json(run_id: str, path: str, value: object) -> None:
    """Store a value as a JSON artifact of a run.

    Raises:
        TypeError: The value can't be written as JSON. MLflow itself would store the value's repr.
    """
    log_text(run_id, path, json.dumps(value, indent=2))


def log_table(run_id: str, path: str, frame: "pd.DataFrame") -> None:
    """Store a table as a CSV artifact of a run. The MLflow UI shows CSV files as tables."""
    log_text(run_id, path, frame.to_csv(index=False))


def log_figure(run_id: str, path: str, figure: "Figure") -> None:
    """Store a figure as an artifact of a run. The suffix of the path, e.g. `.png`, sets the format."""
    MlflowClient().log_figure(run_id, figure, path)


def log_files(run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
    """Store files as artifacts of a run.

    Args:
        run_id: Id of the run.
        folder: Artifact folder for the files.
        files: Contents of the files, by name.
    """
    with temporary_folder() as local:
        for name, content in files.items():
            (local / name).write_bytes(content)
        log_folder(run_id, local, folder)


def log_folder(run_id: str, folder: Path, path: str | None = None) -> None:
    """Store all files of a local folder as artifacts of a run. Large files are sent to a server in parts.

    Args:
        run_id: Id of the run.
        folder: Local folder.
        path: Artifact folder for the files. Default: the root of the run's artifacts.
    """
    if local_path(_root(run_id)):
        MlflowClient().log_artifacts(run_id, str(folder), path)
        return
    with _in_parts(folder) as parts:
        MlflowClient().log_artifacts(run_id, str(parts), path)


@contextmanager
def _in_parts(folder: Path) -> Iterator[Path]:
    """Provide a copy of a folder in which each large file is split. If no file is large, provide the folder itself."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    if all(file.stat().st_size <= PART_BYTES for file in files):
        yield folder
        return
    with temporary_folder() as copy:
        for file in files:
            target = copy / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.stat().st_size <= PART_BYTES:
                shutil.copyfile(file, target)
            else:
                _split(file, target)
        yield copy


def _split(file: Path, target: Path) -> None:
    with open(file, "rb") as content:
        for number in range(-(-file.stat().st_size // PART_BYTES)):
            with open(f"{target}{PART}{number:04}", "wb") as part:
                left = PART_BYTES
                while left and (block := content.read(min(left, _BLOCK_BYTES))):
                    part.write(block)
                    left -= len(block)


def _join(folder: Path) -> None:
    """Join the parts of each large file in a downloaded folder."""
    for first in folder.rglob(f"*{PART}0000"):
        name = first.name.removesuffix(f"{PART}0000")
        with open(first.with_name(name), "wb") as whole:
            for part in sorted(first.parent.glob(f"{glob.escape(name)}{PART}[0-9][0-9][0-9][0-9]")):
                with open(part, "rb") as content:
                    shutil.copyfileobj(content, whole, _BLOCK_BYTES)
                part.unlink()


def sync_artifacts(run_id: str) -> None:
    """Flush the artifacts of a run to the disk. Call this function before recording that the artifacts are complete."""
    sync_tree(_root(run_id))


def sync_tree(uri: str) -> None:
    """Flush all files in a folder on this machine to the disk. If the folder is on a server, do nothing.

    Args:
        uri: URI of the folder.
    """
    if folder := local_path(uri):
        for path in folder.rglob("*"):
            sync(path)


def has_artifact(run_id: str, path: str) -> bool:
    """Return whether a run has a file or folder at this path."""
    root = _root(run_id)
    if local_root := local_path(root):
        return (local_root / path).exists()
    folder = str(PurePosixPath(path).parent)
    listed = MlflowClient().list_artifacts(run_id, None if folder == "." else folder)
    return path in {info.path for info in listed}


def artifact(run_id: str, path: str) -> Path:
    """Return the local path of an artifact.

    If the artifacts are on this machine, return the path of the stored artifact. Otherwise download the artifact, and
    return the path of the copy. The copy is deleted when the process exits.

    Raises:
        UserError: The run has no artifact at this path, or the artifact is a pipe or device.
    """
    root = _root(run_id)
    if local_root := local_path(root):  # MLflow's own function would read the run two more times
        file = local_root / path
        if file.exists() and not file.is_file() and not file.is_dir():  # reading a pipe or device may never end
            raise UserError(f"run {run_id!r}: its file {path!r} is not a regular file")
        if file.exists():
            return file
        raise _missing(run_id, path)
    return _download(run_id, path, Path(tempfile.mkdtemp(dir=_downloads())))


@contextmanager
def fetched(run_id: str, path: str) -> Iterator[Path]:
    """Provide the local path of an artifact. If the artifact is on a server, delete the local copy after the block.

    Use this function for large files that are read once.

    Raises:
        UserError: The run has no artifact at this path.
    """
    if local_path(_root(run_id)):
        yield artifact(run_id, path)
        return
    with temporary_folder() as folder:
        yield _download(run_id, path, folder)


def log_checked_folder(run_id: str, folder: Path, path: str) -> None:
    """Store all files of a local folder as artifacts of a run. If they go to a server, store their checksums, too.

    The caller must hold a lock, so that only one process adds files to the artifact folder.

    Args:
        run_id: Id of the run.
        folder: Local folder.
        path: Artifact folder for the files. It may hold other files from earlier calls.
    """
    log_folder(run_id, folder, path)
    if local_path(_root(run_id)):
        return
    files = (file for file in folder.rglob("*") if file.is_file())
    checksums = _checksums(run_id, path) | {str(file.relative_to(folder)): _sha256(file) for file in files}
    log_json(run_id, f"{path}/{CHECKSUMS}", checksums)


def _checksums(run_id: str, path: str) -> dict[str, str]:
    """Return the checksums of the files in an artifact folder. Empty if an old version of kdflow stored the files."""
    file = f"{path}/{CHECKSUMS}"
    return dict(read_json(run_id, file)) if has_artifact(run_id, file) else {}


def machine_copy(run_id: str, path: str, files: Iterable[str]) -> Path:
    """Return the local path of an artifact folder. If the artifacts are on a server, download each file at most once.

    The copy is in the user's cache folder until `kd gc` deletes it. Use this function for large files that never change
    after they are stored. The caller must hold a lock of this machine, so that only one process downloads the folder.

    An interrupted download continues with the next part of a large file. If `log_checked_folder` has stored the files,
    their checksums are compared.

    Args:
        run_id: Id of the run.
        path: Path of the artifact folder.
        files: The needed files, as paths in the folder.

    Raises:
        UserError: The run has no artifact at this path, or a file is damaged.
    """
    if local_path(_root(run_id)):
        return artifact(run_id, path)
    whole = copies_folder() / run_id
    copy = private_folder(whole / path)
    missing = [file for file in files if not (copy / file).exists()]
    if missing:
        checksums = _checksums(run_id, path)
        for file in missing:
            parts = private_folder(whole / _UNFINISHED / hashlib.sha256(f"{path}/{file}".encode()).hexdigest())
            _download_parts(run_id, f"{path}/{file}", parts)
            complete = parts / PurePosixPath(file).name
            if file in checksums and _sha256(complete) != checksums[file]:
                shutil.rmtree(parts)
                raise UserError(f"run {run_id!r}: its file '{path}/{file}' is damaged: its checksum is wrong")
            private_folder((copy / file).parent)
            sync(complete)
            complete.replace(copy / file)
        shutil.rmtree(whole / _UNFINISHED)
    os.utime(whole / PurePosixPath(path).parts[0])  # `kd gc` reads the time of the last use
    return copy


def _download_parts(run_id: str, path: str, folder: Path) -> None:
    """Download a file from a server into a folder. The parts of a large file that are in the folder are kept.

    Raises:
        UserError: The run has no artifact at this path.
    """
    listed = [info.path for info in MlflowClient().list_artifacts(run_id, str(PurePosixPath(path).parent))]
    parts = [name for name in listed if name == path or name.startswith(f"{path}{PART}")]
    if not parts:
        raise _missing(run_id, path)
    for part in parts:
        target = folder / PurePosixPath(part).name
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                copy = Path(download_artifacts(f"{_root(run_id)}/{part}", dst_path=unfinished))
                sync(copy)
                copy.replace(target)
    _join(folder)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copies_folder() -> Path:
    """Return the folder that holds the copies of `machine_copy`. Each run has a subfolder, named after the run's id."""
    return machine_folder("copies")


def _download(run_id: str, path: str, folder: Path) -> Path:
    """Download an artifact from a server into a folder, and return the path of the copy."""
    if not has_artifact(run_id, path):
        raise _missing(run_id, path)
    copy = Path(download_artifacts(f"{_root(run_id)}/{path}", dst_path=str(folder)))
    _join(copy)
    return copy


def _missing(run_id: str, path: str) -> UserError:
    return UserError(f"run {run_id!r} has no file {path!r}")


def read_json(run_id: str, path: str) -> Any:
    """Return a value that `log_json` stored.

    Raises:
        UserError: The run has no artifact at this path, or the artifact is not JSON.
    """
    try:
        return json.loads(artifact(run_id, path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"run {run_id!r}: its file {path!r} is not JSON: {error}") from error


@functools.cache  # the place of a run's artifacts never changes, and each request takes time
def _root(run_id: str) -> str:
    return str(MlflowClient().get_run(run_id).info.artifact_uri)


@functools.cache  # one folder for all downloads of the process
def _downloads() -> Path:
    """Create a folder for downloads, and delete the folder when the process exits.

    MLflow never deletes its own folders for downloads.
    """
    until_exit = ExitStack()
    # Worker processes call finalizers, but do not call the functions that are registered with atexit.
    multiprocessing.util.Finalize(None, until_exit.close, exitpriority=0)
    return until_exit.enter_context(temporary_folder())
