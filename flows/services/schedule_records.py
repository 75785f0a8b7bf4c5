"""Functions for the records of schedules. A record names the folder of the runs and the code that they may use.

The records are files that only their owner can change. A worker on another machine has no records. Its environment
variables name the folder and the code instead. Clients of Prefect's API can change neither the records nor these
variables.
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import Self
from uuid import UUID

from pydantic import BaseModel

from flows.services.prefect_settings import prefect_home
from kdmodels.errors import UserError
from kdmodels.experiment import user_code
from kdmodels.files.atomic import write_whole
from kdmodels.files.folders import private_folder

WORKER_FOLDER = "KD_WORKER_FOLDER"
"""The environment variable that names the folder of the runs whose schedules have no record."""
WORKER_CODE = "KD_WORKER_CODE"
"""The environment variable with the modules and files that runs without a record may use, separated by commas."""


class ScheduleRecord(BaseModel):
    """A record of the working folder of a schedule's runs, and of the code that the runs are allowed to use.

    Attributes:
        folder: Working folder of the runs. If it is empty, the runs stay in the folder in which the worker starts them.
        allow_code: Modules, packages and files whose code the runs are allowed to use.
        file: Path of the experiment file.
        file_digest: SHA-256 digest of the experiment file when it was scheduled.
    """

    folder: str
    allow_code: list[str]
    file: str | None = None
    file_digest: str | None = None

    def of_file(self, file: Path | None) -> Self:
        """Return a copy of the record that also names the experiment file."""
        if file is None:
            return self
        return self.model_copy(update={"file": str(file.absolute()), "file_digest": _digest(file)})

    def file_changed(self) -> bool | None:
        """Return whether the experiment file was changed or deleted since it was scheduled. None without a file."""
        return None if self.file is None else _digest(Path(self.file)) != self.file_digest


def records_folder() -> Path:
    """Return the folder of the records. Create it if it does not exist.

    Raises:
        PermissionError: Other users can write to the folder.
    """
    return private_folder(prefect_home() / "kdflow-schedules")


def write_record(deployment_id: UUID, record: ScheduleRecord) -> None:
    """Write the record of a schedule's Prefect deployment."""
    write_whole(_path(deployment_id), lambda partial: partial.write_text(record.model_dump_json(exclude_none=True)))


def read_record(deployment_id: UUID) -> ScheduleRecord | None:
    """Return the record of a schedule's Prefect deployment. If there is no record, return None."""
    path = _path(deployment_id)
    return ScheduleRecord.model_validate_json(path.read_text()) if path.exists() else None


def delete_record(deployment_id: UUID) -> None:
    """Delete the record of a schedule's Prefect deployment. If there is no record, do nothing."""
    _path(deployment_id).unlink(missing_ok=True)


def enter_schedule(deployment_id: str) -> None:
    """Restrict this process to the code that a deployment's record allows, and change to the record's folder.

    The restriction reaches child processes through the environment variable `user_code.ALLOWED`.

    Add the folder to the module search path only if the record allows code. Otherwise, a library that tries to import
    an optional module could run a file of the same name in the folder.

    If there is no record, the environment variables of the worker apply. Without these variables, no user code is
    allowed.

    Raises:
        UserError: The folder of the record does not exist, or the environment variables of the worker are invalid.
    """
    record = read_record(UUID(deployment_id)) or _record_of_worker()
    os.environ[user_code.ALLOWED] = ",".join(record.allow_code)
    if record.folder:
        try:
            os.chdir(record.folder)
        except OSError as error:
            raise UserError(
                f"{record.folder}: the runs of this schedule work in this folder, which can't be used: "
                f"{error.strerror}. To schedule the experiment from another folder: kd schedule"
            ) from error
    if record.allow_code:
        user_code.add_module_folder(record.folder)


def _record_of_worker() -> ScheduleRecord:
    """Return the record that the environment variables of the worker describe.

    Raises:
        UserError: The folder does not exist or is a relative path, or the variables allow code without a folder.
    """
    folder = os.environ.get(WORKER_FOLDER, "")
    allow_code = [name.strip() for name in os.environ.get(WORKER_CODE, "").split(",") if name.strip()]
    if allow_code and not folder:
        raise UserError(f"{WORKER_CODE}: expected {WORKER_FOLDER} too, the folder of this code on the worker's machine")
    if folder and not os.path.isabs(folder):  # a relative path would start at a run's working folder
        raise UserError(f"{WORKER_FOLDER}: expected an absolute path, got {folder!r}")
    if folder and not os.path.isdir(folder):
        raise UserError(f"{WORKER_FOLDER}: expected a folder on the worker's machine, got {folder!r}")
    return ScheduleRecord(folder=folder, allow_code=allow_code)


def _digest(file: Path) -> str | None:
    """Return the SHA-256 digest of a file. If the file is not a regular file that can be read, return None."""
    try:
        return sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    except OSError:
        return None


def _path(deployment_id: UUID) -> Path:
    return records_folder() / f"{deployment_id}.json"
