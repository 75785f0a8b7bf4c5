"""The experiments that come with kdflow, and the file to begin an own one from."""

import os
import re
from difflib import get_close_matches
from pathlib import Path

from kdmodels.durable import SHARED, write_whole
from kdmodels.errors import UserError, allowed

FOLDER = Path(__file__).parent
TEMPLATE = FOLDER / "template.yaml"


def shipped() -> list[str]:
    """The names of the experiments that come with kdflow.

    >>> shipped()
    ['cifar10', 'cifar10-full', 'digits', 'digits-losses', 'hw13', 'mnist', 'mnist-losses']
    """
    return sorted(file.stem for file in FOLDER.glob("*.yaml") if file != TEMPLATE)


def find(word: str) -> Path:
    """The file of an experiment: a shipped one's name, or a path.

    Raises:
        UserError: it is neither.
    """
    if word in shipped():
        return FOLDER / f"{word}.yaml"
    path = Path(word)
    if path.is_dir():
        raise UserError(f"{word}: is a folder, not an experiment file")
    if not os.path.exists(path):  # False, not an error, for a name that no system allows
        beside = [file.name for file in sorted(path.parent.glob("*.y*ml"))] if path.suffix else []
        nearest = get_close_matches(path.name, beside, n=1)
        meant = f"did you mean '{path.with_name(nearest[0])}'? " if nearest else ""
        told = meant + allowed("" if meant else path.stem, shipped())
        raise UserError(f"{word}: is neither a file nor an experiment; {told}")
    return path


def write_template(file: Path) -> None:
    """Write the commented template as a new file, whole or not at all; its experiment has the file's name.

    Raises:
        UserError: the file is there already, or can't be written.
    """
    from kdmodels.schema import NAME  # pydantic takes longer to import than all else here

    if os.path.lexists(file):  # also a link to nothing
        raise UserError(f"{file}: exists already; allowed: a new file")
    name = file.stem if re.fullmatch(NAME, file.stem) and len(file.stem) <= 80 else "my-experiment"
    text = TEMPLATE.read_text(encoding="utf-8").replace("my-experiment", name)
    try:
        write_whole(file, lambda partial: partial.write_text(text, encoding="utf-8"), mode=SHARED)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
