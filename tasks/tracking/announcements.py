"""Announcements of MLflow servers on this machine. The user's other commands read them.

An announcement is a private file that holds a text and the id of the process that announces the text.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdmodels.files.atomic import write_whole
from kdmodels.files.folders import cache_folder, private_folder


@contextmanager
def announced(name: str, text: str) -> Iterator[None]:
    """Announce a text under a name while the `with` block runs. Replace an earlier announcement under this name."""
    content = json.dumps({"pid": os.getpid(), "text": text})
    private_folder(_file(name).parent)
    path = write_whole(_file(name), lambda partial: partial.write_text(content))
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if path.read_text() == content:  # otherwise another server has announced itself since
                path.unlink()


def announcement(name: str) -> str | None:
    """Return the text that is announced under a name.

    Return None if there is no announcement, or if the process that wrote the announcement has ended.
    """
    try:
        state = json.loads(_file(name).read_text())
        os.kill(state["pid"], 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:  # the id now belongs to a process of another user
        return None
    return str(state["text"])


def _file(name: str) -> Path:
    return cache_folder() / "servers" / f"{name}.json"
