"""Bundles: a comparison with its teacher, students, models and report in one zip file, for another store."""

import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from kdmodels.errors import UserError
from kdmodels.files.atomic import SHARED, write_whole
from kdmodels.files.temporary import temporary_folder
from kdmodels.report.report import html
from kdmodels.serving.model_file import ServedModel
from kdmodels.serving.refusal import RefusedError
from tasks import queries, tracking
from tasks.cleanup.needs import compared_students
from tasks.execution.checkpoint_uploads import CHECKPOINTS
from tasks.held_out import TRAINED
from tasks.report_contents import find_comparison, read_contents
from tasks.results import CORRECTNESS, DATA, KNOWLEDGE
from tasks.tracking.contents import artifact_names, model_uri
from tasks.tracking.models import log_model
from tasks.tracking.served import read_model
from tasks.tracking.tags import Tag

FORMAT = 1
CONTENTS, SUMS, REPORT, SPEC, MODEL = "bundle.json", "SHA256SUMS", "report.html", "experiment.yaml", "model.onnx"
SUFFIXES = (".csv", ".json", ".safetensors", ".txt")  # artifacts that are bundled: data, never pages or code
TEXTS = (".csv", ".json", ".txt")  # artifacts in which run ids are replaced
ENTRIES = 200_000  # maximum number of files in a bundle
LARGEST = 64 * 10**9  # maximum total size of the unpacked files in bytes
LARGEST_TEXT = 256 * 10**6  # maximum size of a text in bytes, because it is read into memory
_FILE = r"(?:[A-Za-z0-9_][A-Za-z0-9_.=+-]*/)*[A-Za-z0-9_][A-Za-z0-9_.=+-]*"
_NAME = re.compile(
    rf"(?:bundle\.json|SHA256SUMS|report\.html|experiment\.yaml|model\.onnx"
    rf"|runs/(?P<run>[0-9a-f]{{32}})/(?:model\.onnx|artifacts/(?P<artifact>{_FILE}\.(?:csv|json|safetensors|txt))))"
)
_TAGS = {
    *(Tag.ERROR, Tag.WARNING, Tag.VERSION, Tag.TORCH, Tag.MLFLOW, Tag.PREFECT, Tag.VARIANT, Tag.CONTROL, Tag.SEEDS),
    *(Tag.REPLICAS, Tag.REPLICA, Tag.NOTE, Tag.TUNING, Tag.MEMBERS, Tag.VIEWS, Tag.TEACHER_RUN, Tag.WINNER),
    *(Tag.WINNER_RUN, Tag.VERDICT, Tag.TEST_READS, Tag.REPRODUCTION),
}  # the tags that mean the same in every store


class Contents(BaseModel):
    """The runs of a bundle.

    Attributes:
        format: The version of the bundle's format.
        kdflow: The version of kdflow that wrote the bundle.
        runs: The comparison and then the runs that it compared or needed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    format: int
    kdflow: str
    runs: list[tracking.Run]


def write_bundle(word: str | None, out: Path | None) -> Path:
    """Write a comparison with its teacher, students, models and report to a new zip file, and return the file.

    Prepared data, the teacher's stored outputs, checkpoints and the thumbnails of training images are left out.

    Args:
        word: The name or id of the comparison's run, or of the run of one of its students. Default: the latest
            comparison.
        out: The path of the zip file. Default: a file in the working directory, named after the comparison.

    Raises:
        UserError: There is no such comparison, it has not ended, or the file exists or can't be written.
    """
    comparison = find_comparison(word)
    runs = _bundled_runs(comparison)
    for run in runs:
        if run.end is None:
            raise UserError(f"run {run.name} ({run.run_id}) has not ended, so it can't be bundled")
    file = out or Path(f"{comparison.name}.zip")
    if file.exists():
        raise UserError(f"{file}: exists already. Choose another file name")
    try:
        with temporary_folder() as folder:
            _collect(folder, comparison, runs)
            write_whole(file, lambda partial: _pack(folder, partial), mode=SHARED)
    except OSError as error:
        raise UserError(f"{file}: can't be written: {error.strerror or error}") from error
    return file


def _bundled_runs(comparison: tracking.Run) -> list[tracking.Run]:
    """Return the comparison, and the runs that it started, compared or needed."""
    pending = [run.run_id for run in tracking.children(comparison.run_id)] + compared_students(comparison.run_id)
    pending += [comparison.tags[Tag.TEACHER_RUN]] if Tag.TEACHER_RUN in comparison.tags else []
    runs = {comparison.run_id: comparison}
    while pending:
        run_id = pending.pop(0)
        if run_id not in runs:
            run = runs[run_id] = tracking.get(run_id)
            pending += json.loads(run.tags.get(Tag.MEMBERS, "[]"))
            pending += [run.tags[Tag.TUNING]] if Tag.TUNING in run.tags else []
    return list(runs.values())


def _collect(folder: Path, comparison: tracking.Run, runs: Sequence[tracking.Run]) -> None:
    """Write all files of a bundle to a folder."""
    for run in runs:
        _collect_run(folder / "runs" / run.run_id, run.run_id)
    (folder / REPORT).write_text(html(read_contents(comparison)), encoding="utf-8")
    (folder / SPEC).write_text(queries.spec(comparison.run_id), encoding="utf-8")
    winner = folder / "runs" / comparison.tags.get(Tag.WINNER_RUN, "") / MODEL
    if winner.is_file():
        shutil.copyfile(winner, folder / MODEL)
    contents = Contents(format=FORMAT, kdflow=version("kdflow"), runs=[_portable(run) for run in runs])
    (folder / CONTENTS).write_text(contents.model_dump_json(), encoding="utf-8")
    sums = [f"{_digest(file)}  {file.relative_to(folder).as_posix()}\n" for file in _files(folder)]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def _collect_run(folder: Path, run_id: str) -> None:
    folder.mkdir(parents=True)
    for name in artifact_names(run_id):
        if name in (DATA, KNOWLEDGE, TRAINED, CHECKPOINTS):  # images, and what can be computed again
            continue
        stored = tracking.artifact(run_id, name)
        for file in _files(stored) if stored.is_dir() else [stored]:
            relative = Path(name, *file.relative_to(stored).parts)
            if file.suffix in SUFFIXES:
                target = folder / "artifacts" / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    if uri := model_uri(run_id):
        (folder / MODEL).write_bytes(read_model(uri))


def _portable(run: tracking.Run) -> tracking.Run:
    """Return the run with only those tags that mean the same in every store."""
    tags = {tag: text for tag, text in run.tags.items() if tag in _TAGS or tag.startswith(f"{Tag.TUNED}")}
    return tracking.Run(**vars(run) | {"tags": tags})


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()


def _pack(folder: Path, file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path in _files(folder):
            archive.write(path, path.relative_to(folder).as_posix())


def import_bundle(file: Path) -> tracking.Run:
    """Store the runs of a bundle in the current tracking store, and return the run of the comparison.

    All file names, sizes and checksums are checked before anything is stored. Nothing in a bundle is executed. The runs
    get new ids.

    Raises:
        UserError: The file is not a bundle, is damaged, has a file name or a size that is not allowed, or was imported
            before. Or one of its models is refused.
    """
    tracking.configure()
    with temporary_folder() as folder:
        with _opened(file) as archive:
            _unpack(archive, folder, file)
        contents = _read_contents(folder, file)
        with tracking.imported_runs(contents.runs) as new_ids:
            for run in contents.runs:
                _store(folder / "runs" / run.run_id, new_ids[run.run_id], new_ids)
    return tracking.get(new_ids[contents.runs[0].run_id])


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file. Convert each error of reading it to a UserError."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{file}: is not a readable zip file: {error}") from error
    except OSError as error:
        raise UserError(f"{file}: can't be read: {error.strerror or error}") from error


def _unpack(archive: zipfile.ZipFile, folder: Path, file: Path) -> None:
    """Unpack a bundle into an empty folder, and check each file's name, size and checksum."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for name in names:
        if not _NAME.fullmatch(name):
            raise UserError(f"{file}: a bundle has no file {name[:200]!r}")
    total = sum(entry.file_size for entry in entries)
    allowed = min(LARGEST, shutil.disk_usage(folder).free)
    if len(entries) > ENTRIES or total > allowed:
        raise UserError(
            f"{file}: has {len(entries)} files and {total} bytes. Allowed: {ENTRIES} files and {allowed} bytes"
        )
    if len(set(names)) < len(names) or not {CONTENTS, SUMS} <= {*names}:
        raise UserError(f"{file}: is not a bundle of kd bundle")
    for entry in entries:
        target = folder / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("xb") as written:
            shutil.copyfileobj(source, written)  # reads at most `file_size` bytes, and checks the CRC
    sums: dict[str, str] = {}
    for line in _text(folder / SUMS, file).splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    for name in {*names, *sums} - {SUMS}:
        if name not in names or _digest(folder / name) != sums.get(name):
            raise UserError(f"{file}: the checksum of {name[:200]!r} does not match. Ask for the file again")


def _text(path: Path, bundle: Path) -> str:
    if path.stat().st_size > LARGEST_TEXT:
        raise UserError(f"{bundle}: {path.name} has {path.stat().st_size} bytes. Allowed: {LARGEST_TEXT}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{bundle}: {path.name} is not UTF-8") from error


def _read_contents(folder: Path, file: Path) -> Contents:
    text = _text(folder / CONTENTS, file)
    try:
        contents = Contents.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{file}: {CONTENTS}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    runs = {run.run_id: run for run in contents.runs}
    folders = {path.name for path in (folder / "runs").iterdir()} if (folder / "runs").is_dir() else set()
    if contents.format != FORMAT:
        raise UserError(f"{file}: has format {contents.format}. Allowed: {FORMAT}. Upgrade kdflow to read it")
    if not runs or len(runs) < len(contents.runs) or folders - runs.keys() or contents.runs[0].kind != "comparison":
        raise UserError(f"{file}: {CONTENTS} does not describe a comparison and the runs in the bundle")
    if any(run.end is None for run in contents.runs):
        raise UserError(f"{file}: {CONTENTS} has a run that has not ended")
    return contents


def _store(folder: Path, run_id: str, new_ids: Mapping[str, str]) -> None:
    """Store the files of a run. Run ids in the files are replaced by the new ids."""
    artifacts = folder / "artifacts"
    for path in _files(artifacts):
        if path.suffix in TEXTS or path.name == CORRECTNESS:
            text = path.read_bytes().decode("latin-1")  # every byte is a character, also in a binary file
            path.write_bytes(tracking.with_new_ids(text, new_ids).encode("latin-1"))
    if artifacts.is_dir():
        tracking.log_folder(run_id, artifacts)
    model = folder / MODEL
    if model.is_file():
        try:
            content = model.read_bytes()
            served = ServedModel(content)
        except RefusedError as error:
            raise UserError(f"the model of run {folder.name} is refused: {error}") from error
        log_model(run_id, content, np.zeros((2, *served.input_shape), dtype=np.float32))
