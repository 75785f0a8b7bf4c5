"""The experiments that come with kdflow, and the file to begin an own one from."""

from pathlib import Path

from kdmodels.errors import UserError, allowed

FOLDER = Path(__file__).parent
TEMPLATE = FOLDER / "template.yaml"


def shipped() -> list[str]:
    """The names of the experiments that come with kdflow.

    >>> shipped()
    ['digits', 'mnist']
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
    if not path.exists():
        raise UserError(f"{word}: is neither a file nor an experiment; {allowed(path.stem, shipped())}")
    return path
