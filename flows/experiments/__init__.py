"""The experiments shipped with kdflow, and the template of `kd init`."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from kdmodels.errors import UserError, allowed
from kdmodels.experiment import Experiment, GeneratorExperiment
from kdmodels.experiment.file import read_any_experiment, read_experiment, require_comparison, with_place
from kdmodels.experiment.presets import CONTROL
from kdmodels.experiment.schema import NAME
from kdmodels.files.atomic import SHARED, write_whole

FOLDER = Path(__file__).parent
TEMPLATE = FOLDER / "template.yaml"
PAPERS = FOLDER / "papers"
"""The folder with the experiments of `kd reproduce`."""


def shipped() -> list[str]:
    """Return the names of the shipped experiments.

    >>> "digits" in shipped()
    True
    """
    return sorted(file.stem for file in FOLDER.glob("*.yaml") if file != TEMPLATE)


def find(word: str) -> Path:
    """Return the file of an experiment.

    Args:
        word: Name of a shipped experiment, or path of an experiment file.

    Raises:
        UserError: No shipped experiment has this name, and no file has this path.
    """
    if word in shipped():
        return FOLDER / f"{word}.yaml"
    path = Path(word)
    if path.is_dir():
        raise UserError(f"{word}: is a folder, not an experiment file")
    if not os.path.exists(path):  # unlike Path.exists, raises no error for a name that the system forbids
        siblings = [file.name for file in sorted(path.parent.glob("*.y*ml")) if path.suffix and file.is_file()]
        nearest = get_close_matches(path.name, siblings, n=1)
        hint = f"Did you mean '{path.with_name(nearest[0])}'? " if nearest else ""
        hint += allowed("" if nearest else path.stem, shipped())
        raise UserError(f"{word}: is neither a file nor an experiment. {hint}")
    return path


def load_any_experiment(
    word: str | None, overrides: Sequence[str] = (), variants: str | None = None
) -> Experiment | GeneratorExperiment:
    """Read and validate an experiment, which compares students or trains a generator.

    Args:
        word: Name of a shipped experiment, or path of an experiment file.
        overrides: Fields to change, each as `key=value`.
        variants: Comma-separated names of the loss variants to keep. The control, which is the student trained
            only on labels, is always kept.

    Raises:
        UserError: The experiment or a variant does not exist, or the experiment is invalid.
    """
    if word is None:
        raise UserError(f"which experiment? Allowed: {', '.join(shipped())}, or a file. Start with: kd run digits")
    experiment = read_any_experiment(find(word), overrides)
    if variants is None:
        return experiment
    if isinstance(experiment, GeneratorExperiment):
        raise UserError(f"--variants: {word} trains a generator, which has no variants")
    names = [variant.name for variant in experiment.variants]
    chosen = [CONTROL, *(name.strip() for name in variants.split(","))]
    for name in chosen:
        if name not in names:
            raise UserError(f"--variants: {name!r} is not a variant of {experiment.name}. {allowed(name, names)}")
    return experiment.only(chosen)


def load_experiment(word: str | None, overrides: Sequence[str] = (), variants: str | None = None) -> Experiment:
    """Read and validate an experiment that compares students, see `load_any_experiment`.

    Raises:
        UserError: The experiment or a variant does not exist, the experiment is invalid, or it trains a generator.
    """
    return require_comparison(load_any_experiment(word, overrides, variants), str(word))


def load_paper_experiment(name: str, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment of `kd reproduce`, see `load_any_experiment`."""
    return read_experiment(PAPERS / f"{name}.yaml", overrides)


def load_paper_generator(name: str, overrides: Sequence[str] = ()) -> GeneratorExperiment:
    """Read and validate an experiment of `kd reproduce` that trains a generator, see `load_any_experiment`."""
    experiment = read_any_experiment(PAPERS / f"{name}.yaml", overrides)
    assert isinstance(experiment, GeneratorExperiment), f"{name} is named as a generator by a reproduction"
    return experiment


@contextmanager
def mistakes_located(word: str, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Add the file and the line to a UserError from the `with` block whose message starts with a field's name.

    Errors in a shipped experiment stay unchanged, because the user did not write its file.

    Args:
        word: Name of a shipped experiment, or path of an experiment file.
        overrides: Fields to change, each as `key=value`.
    """
    try:
        yield
    except UserError as error:
        message = str(error) if word in shipped() else with_place(str(error), Path(word), overrides)
        if message == str(error):
            raise
        raise type(error)(message) from error


def write_template(file: Path) -> None:
    """Write the commented template as a new file. The experiment is named after the file.

    The write is atomic. If the file name is not a valid experiment name, the experiment is named `my-experiment`.

    Raises:
        UserError: The file already exists or cannot be written.
    """
    write_new(file, TEMPLATE.read_text(encoding="utf-8").replace("my-experiment", name_for(file)))


def name_for(file: Path) -> str:
    """Return the file's name without suffix as an experiment's name, or `my-experiment` if that name is not valid."""
    return file.stem if re.fullmatch(NAME, file.stem) and len(file.stem) <= 80 else "my-experiment"


def write_new(file: Path, text: str) -> None:
    """Write a text to a new file, completely or not at all.

    Raises:
        UserError: The file already exists or cannot be written.
    """
    if os.path.lexists(file):  # also true for a broken link
        raise UserError(f"{file}: exists already. Choose another file name")
    if not file.parent.is_dir():
        raise UserError(f"{file}: the folder {file.parent} does not exist")
    try:
        write_whole(file, lambda partial: partial.write_text(text, encoding="utf-8"), mode=SHARED)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
