"""What the runs of a schedule may do on this machine, in files of its owner that Prefect's API cannot change."""

import os
import sys
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from flows import server
from kdmodels import own_code
from kdmodels.durable import write_whole
from kdmodels.folders import private_folder


class ScheduleRecord(BaseModel):
    """The folder that a schedule was made from, and the modules and files whose code its runs may name."""

    folder: str
    allow_code: list[str]


def records_folder() -> Path:
    """Return the folder of the records, which is made if it is missing.

    Raises:
        PermissionError: other users may write to it.
    """
    return private_folder(server.prefect_home() / "kdflow-schedules")


def write_record(deployment_id: UUID, record: ScheduleRecord) -> None:
    """Write what the runs of a deployment may do."""
    write_whole(_path(deployment_id), lambda partial: partial.write_text(record.model_dump_json()))


def delete_record(deployment_id: UUID) -> None:
    """Delete a deployment's record, if there is one."""
    _path(deployment_id).unlink(missing_ok=True)


def enter_schedule(deployment_id: str) -> None:
    """Restrict this process to the code that a deployment's record allows, and move to its folder.

    If the record allows code, the folder comes last in the search for modules, so that no file in it takes the place
    of a library. If not, no module is found there: libraries try to import others that are not installed, and any file
    of such a name would run. Without a record no code of the user's is allowed.
    """
    path = _path(UUID(deployment_id))
    if not path.exists():
        os.environ[own_code.ALLOWED] = ""
        return
    record = ScheduleRecord.model_validate_json(path.read_text())
    os.environ[own_code.ALLOWED] = ",".join(record.allow_code)
    os.chdir(record.folder)
    if record.allow_code:
        sys.path.append(record.folder)


def _path(deployment_id: UUID) -> Path:
    return records_folder() / f"{deployment_id}.json"
