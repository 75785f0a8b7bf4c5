"""The reader of experiment files. It reports each mistake in one line, with the line number."""

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue, ValidationError

from kdmodels.errors import UserError, allowed
from kdmodels.experiment import Experiment, GeneratorExperiment, schema
from kdmodels.experiment.yaml_loader import Places, line_and_column, load, sentence

LARGEST_FILE = 100_000  # bytes; a usual file has about 1,000 bytes, and parsing 100,000 bytes takes seconds


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate the file of an experiment that compares students.

    The arguments are those of `read_any_experiment`.

    Raises:
        UserError: The file has mistakes, or its experiment trains a generator.
    """
    return require_comparison(read_any_experiment(path, overrides), str(path))


def require_comparison(experiment: Experiment | GeneratorExperiment, name: str) -> Experiment:
    """Return the experiment unchanged if it compares students. Raise a UserError if it trains a generator.

    Args:
        experiment: The experiment.
        name: The name or the file of the experiment, for the error message.
    """
    if isinstance(experiment, GeneratorExperiment):
        raise UserError(f"{name}: trains a generator. Allowed: an experiment with a teacher, a student and variants")
    return experiment


def read_any_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment | GeneratorExperiment:
    """Read and validate an experiment file. A file with a field `generator` describes the training of a generator.

    Relative paths of checkpoints and data become absolute if they exist below the folder of the file or, otherwise,
    below the current folder. A scheduled run has a different current folder, and would not find a relative path.

    Args:
        path: The path of the experiment file.
        overrides: Texts of the form `key=value`. Their values replace those of the file. The key is dotted, as in
            `student.epochs` or `variants.0`, and the value is YAML.

    Raises:
        UserError: The file has mistakes. The message has one line per mistake. Each line names the file, the line
            number, the field, its value and the allowed values.
    """
    raw, places = _read(path, overrides)
    _make_paths_absolute(raw, path.parent)
    model = _model_of(raw)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        mistakes = [schema.explain(detail, model) for detail in error.errors()]
        if isinstance(raw.get("teacher"), list):  # the file has a list of teachers, without the field `ensemble`
            mistakes = [(_without_ensemble(where), message) for where, message in mistakes]
        lines = sorted(_placed(places, where, message) for where, message in mistakes)
        raise UserError("\n".join(text for _, text in lines)) from error


def parse_experiment(raw: dict[str, JsonValue]) -> Experiment | GeneratorExperiment:
    """Return the experiment of a recorded run. `raw` is the JSON value that the run stored."""
    return _model_of(raw).model_validate(raw)


def _model_of(raw: dict[str, JsonValue]) -> type[Experiment] | type[GeneratorExperiment]:
    return GeneratorExperiment if "generator" in raw else Experiment


def with_place(message: str, path: Path, overrides: Sequence[str] = ()) -> str:
    """Put the file and the line number in front of an error message that starts with the name of a field.

    Some mistakes are found only after the data are read, when the lines of the file are no longer known. The file is
    therefore read again. If the message does not start with a field of an experiment, or if the file can no longer be
    read, the message is returned unchanged.

    Args:
        message: The message, e.g. `data.subset: 5000 is out of range`.
        path: The path of the experiment file.
        overrides: Texts of the form `key=value`, see `read_experiment`.
    """
    field, colon, problem = message.partition(": ")
    steps = [int(step) if step.isdecimal() else step for step in field.split(".")]
    if not colon or steps[0] not in {**Experiment.model_fields, **GeneratorExperiment.model_fields}:
        return message
    try:
        _, places = _read(path, overrides)
    except UserError:
        return message
    return _placed(places, tuple(steps), problem)[1]


def _read(path: Path, overrides: Sequence[str]) -> tuple[dict[str, JsonValue], Places]:
    """Return the unvalidated experiment with the overrides applied, and where each value was given."""
    raw, places = load(_text(path), lambda line: (line, f"{path}:{line}"))
    if not isinstance(raw, dict):
        problem = "is empty" if raw is None else f"expected a mapping, got {schema.show(raw)}"
        raise UserError(f"{path}: {problem}. The fields of an experiment: {', '.join(Experiment.model_fields)}")
    if isinstance(raw.get("data"), str):
        raw["data"] = {"source": raw["data"]}  # an override can then set data.validation
    for override in overrides:
        _override(raw, places, override)
    return raw, places


def _make_paths_absolute(raw: dict[str, JsonValue], folder: Path) -> None:
    teacher, data = raw.get("judge" if "generator" in raw else "teacher"), raw.get("data")
    members = teacher.get("ensemble") if isinstance(teacher, dict) else teacher
    for member in [teacher, *members] if isinstance(members, list) else [teacher]:
        _make_absolute(member, "checkpoint", folder)
        if isinstance(member, dict):
            if isinstance(member.get("data"), str):
                member["data"] = {"source": member["data"]}
            _make_absolute(member.get("data"), "source", folder)
    _make_absolute(data, "source", folder)
    if isinstance(data, dict):
        _make_absolute(data.get("transfer"), "unlabelled", folder)


def _make_absolute(part: JsonValue, field: str, folder: Path) -> None:
    """Make the path in a field absolute if the path exists below a folder or, otherwise, below the current folder.

    If it exists below neither, the field stays unchanged, e.g. if the path exists only below the data folder.

    Args:
        part: A part of the unvalidated experiment, which is changed in place. If it is not a mapping, nothing changes.
        field: The name of the field.
        folder: The folder of the experiment file.
    """
    word = part.get(field) if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(word, str):
        return
    path, colon, function = word.partition(":")
    if {"/", "."} & set(path):
        existing = next((each for each in (folder / path, Path(path)) if os.path.exists(each)), None)
        part[field] = word if existing is None else os.path.abspath(existing) + colon + function


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UserError(f"{path}: not an experiment file: it is larger than {LARGEST_FILE} bytes")
        return content.decode()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line, column = line_and_column(content[: error.start].decode())
        raise UserError(f"{path}:{line}: not UTF-8 text at column {column}") from error


def _without_ensemble(path: schema.Path) -> schema.Path:
    return ("teacher", *path[2:]) if path[:2] == ("teacher", "ensemble") else path


def _placed(places: Places, path: schema.Path, message: str) -> tuple[int, str]:
    """Return the line number of a field, for sorting, and an error message that begins with the file and the line.

    If the field is not in the file, the line of the nearest enclosing field is used.
    """
    place = next(places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in places)
    return place[0], sentence(place, path, message)


def _override(raw: dict[str, JsonValue], places: Places, override: str) -> None:
    """Apply one override to the unvalidated experiment, in place. Create missing mappings along the dotted key.

    Args:
        raw: The unvalidated experiment.
        places: Where each value was given (file and line, or --set). This mapping is also updated in place.
        override: Text of the form `key=value`, see `read_experiment`.
    """
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {override}: expected key=value, such as student.epochs=5")
    origin, steps = f"--set {key}", key.split(".")
    path: schema.Path = ()
    here = (LARGEST_FILE, origin)  # sorted after every line of the file
    target: JsonValue = raw
    for i, step in enumerate(steps):
        parent = ".".join(steps[:i])
        path = (*path, _index(target, step, origin, parent))
        if i == len(steps) - 1:
            break
        if isinstance(target, dict) and target.get(step) is None:
            target[step] = {}
            places[path] = here
        target = _item(target, path[-1])
    for replaced in [old for old in places if old[: len(path)] == path]:
        del places[replaced]
    value, added = load(text, lambda line: here, path)
    if isinstance(target, dict):
        target[str(path[-1])] = value
    elif isinstance(target, list):
        target[int(path[-1])] = value
    places.update(added)


def _item(target: JsonValue, index: str | int) -> JsonValue:
    if isinstance(target, dict):
        return target[str(index)]
    assert isinstance(target, list)
    return target[int(index)]


def _index(target: JsonValue, step: str, origin: str, parent: str) -> str | int:
    """Convert one part of a dotted key to the key of a mapping or the index of a list.

    Args:
        target: The mapping or list in which the part is looked up.
        step: The part of the dotted key, as text.
        origin: The start of the error message, e.g. `--set variants.9`.
        parent: The dotted key of `target`, for error messages.

    Raises:
        UserError: The list has no item with this index, or `target` is neither a mapping nor a list.
    """
    if isinstance(target, dict):
        return step
    if not isinstance(target, list):
        raise UserError(f"{origin}: {parent} is {schema.show(target)}, which has no fields")
    items = [str(i) for i in range(len(target))]
    if step not in items:
        raise UserError(f"{origin}: {parent} has no item {schema.show(step)}. {allowed(step, items)}")
    return int(step)
