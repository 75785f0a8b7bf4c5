"""Experiment files: YAML read safely, every mistake in it one line that says where it stands."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import ValidationError

from kdmodels import schema
from kdmodels.errors import UserError, allowed
from kdmodels.experiment import Experiment

LARGEST_FILE = 100_000  # bytes; a file of this language is some thousand, and one so large takes seconds to parse
DEEPEST = 50  # brackets in brackets, or levels of indentation; an experiment has some ten

Place = tuple[int, str]
"""Where a value stands: the line to sort by, and the text that a message begins with."""
Places = dict[schema.Path, Place]


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file.

    Relative paths of `teacher.checkpoint` and of the data that exist from the current folder on are made absolute: a
    scheduled run has another.

    Args:
        overrides: `key=value`, the key dotted (`student.epochs`, `variants.0`), the value YAML; they win over the file.
    Raises:
        UserError: one line for each mistake: the file and line, the field, its value, and what is allowed.
    """
    raw, places = _load(_text(path), lambda line: (line, f"{path}:{line}"))
    if not isinstance(raw, dict):
        fields = allowed("", Experiment.model_fields)
        raise UserError(
            f"{path}: {'is empty' if raw is None else f'holds {schema.show(raw)}, not a mapping'}; {fields}"
        )
    if isinstance(raw.get("data"), str):
        raw["data"] = {"source": raw["data"]}  # so that data.validation can be set
    for override in overrides:
        _override(raw, places, override)
    teacher, data = raw.get("teacher"), raw.get("data")
    listed = teacher.get("ensemble") if isinstance(teacher, dict) else teacher
    for member in [teacher, *listed] if isinstance(listed, list) else [teacher]:
        if isinstance(member, dict) and isinstance(member.get("checkpoint"), str):
            member["checkpoint"] = _absolute(member["checkpoint"])
    if isinstance(data, dict):
        for part, field in ((data, "source"), (data.get("transfer"), "unlabelled")):
            if isinstance(part, dict) and isinstance(part.get(field), str):
                part[field] = _absolute(part[field])
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        mistakes = [schema.explain(detail, Experiment) for detail in error.errors()]
        if isinstance(teacher, list):  # named as it was written
            mistakes = [(("teacher", *where[2:]) if where[:2] == ("teacher", "ensemble") else where, message)
                        for where, message in mistakes]  # fmt: skip
        lines = sorted(_placed(places, where, message) for where, message in mistakes)
        raise UserError("\n".join(text for _, text in lines)) from error


def _absolute(word: str) -> str:
    """A path that exists from the current folder on; anything else as it is, such as a path below the data's folder."""
    path, colon, function = word.partition(":")
    return os.path.abspath(path) + colon + function if {"/", "."} & set(path) and os.path.exists(path) else word


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UserError(f"{path}: is larger than {LARGEST_FILE} bytes: not an experiment file")
        return content.decode()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line, column = _line_and_column(content[: error.start].decode())
        raise UserError(f"{path}:{line}: is not UTF-8 text at column {column}") from error


def _line_and_column(before: str) -> tuple[int, int]:
    """Of what follows that text, from 1."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _placed(places: Places, path: schema.Path, message: str) -> tuple[int, str]:
    """A mistake at the place of the nearest value that was written, and the line to sort by."""
    place = next(places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in places)
    return place[0], _sentence(place, path, message)


def _sentence(place: Place, path: schema.Path, message: str) -> str:
    field = ".".join(map(str, path))
    return f"{place[1]}: {message}" if place[1] == f"--set {field}" or not field else f"{place[1]}: {field}: {message}"


class _Loader(yaml.SafeLoader):
    """Plain text as YAML 1.2 reads it, since 1.1 takes 1e-3 for text, no for false and 1:30 for 90.

    Aliases are refused: no experiment needs one, and a few lines of them can stand for gigabytes. So is what is nested
    too deeply, before Python's own limit is met.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (as PyYAML types it)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.refuse("an alias (*name) is not read: write the value out")
        if self.depth == DEEPEST and self.check_event(yaml.CollectionStartEvent):
            self.refuse(f"is nested more than {DEEPEST} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def refuse(self, problem: str) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)


_TAG = "tag:yaml.org,2002:"
_KINDS: dict[str, tuple[str | None, Callable[[str], Any]]] = {
    "null": (r"|~|null|Null|NULL", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+", int),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    "str": (None, lambda text: text.encode().decode()),  # "\ud800" is half a character: a ValueError
}
for _kind, (_pattern, _) in _KINDS.items():
    if _pattern is not None:
        _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})\\Z"), None)


def _load(text: str, place: Callable[[int], Place], path: schema.Path = ()) -> tuple[Any, Places]:
    """The value of a YAML text, and the place of everything in it below `path`; `place` is told a line, from 1."""
    places: Places = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _value(node, path, place, places), {path: place(1), **places}
    except yaml.MarkedYAMLError as error:
        line, column = (mark.line + 1, mark.column + 1) if (mark := error.problem_mark) else (1, 1)
        raise UserError(f"{place(line)[1]}: is not YAML at column {column}: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line, column = _line_and_column(text[: error.position])
        told = f"the character U+{error.character:04X} at column {column} is not allowed"
        raise UserError(f"{place(line)[1]}: {told}") from error


def _value(node: yaml.Node, path: schema.Path, place: Callable[[int], Place], places: Places) -> Any:
    here = places.setdefault(path, place(node.start_mark.line + 1))  # of a field: where its name stands
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_value(item, (*path, i), place, places) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            here, column = place(key.start_mark.line + 1), key.start_mark.column + 1
            if not isinstance(key, yaml.ScalarNode) or not key.value or not key.value.isprintable():
                raise UserError(_sentence(here, path, f"the name of a field at column {column} is not text"))
            field = (*path, key.value)
            if key.value in mapping:
                told = f"stands twice, here at column {column}, before in {places[field][1]}"
                raise UserError(_sentence(here, field, told))
            places[field] = here
            mapping[key.value] = _value(value, field, place, places)
        return mapping
    here, column = place(node.start_mark.line + 1), node.start_mark.column + 1  # not of the name, if it has one
    if not isinstance(node, yaml.ScalarNode) or kind not in _KINDS:
        told = f"the tag {node.tag.replace(_TAG, '!!')} at column {column} is not read"
        raise UserError(_sentence(here, path, told))
    try:
        return _KINDS[kind][1](node.value)
    except ValueError as error:  # an explicit tag, thousands of digits, or half a character
        told = f"{schema.show(node.value)} at column {column} is not readable as {kind}"
        raise UserError(_sentence(here, path, told)) from error


def _override(raw: dict[str, Any], places: Places, override: str) -> None:
    """Set one value in place; what is missing on the way to it is made."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {override}: allowed: key=value, such as student.epochs=5")
    origin, steps = f"--set {key}", key.split(".")
    path: schema.Path = ()
    here = (LARGEST_FILE, origin)  # sorts after every line of the file
    target: Any = raw
    for i, step in enumerate(steps):
        index = _index(target, step, origin, ".".join(steps[:i]))
        path = (*path, index)
        if i == len(steps) - 1:
            break
        if isinstance(target, dict) and target.get(step) is None:
            target[step] = {}
            places[path] = here
        target = target[index]
    for old in [old for old in places if old[: len(path)] == path]:
        del places[old]
    target[index], new = _load(text, lambda line: here, path)
    places.update(new)


def _index(target: Any, step: str, origin: str, parent: str) -> str | int:
    if isinstance(target, dict):
        return step
    if not isinstance(target, list):
        raise UserError(f"{origin}: {parent} is {schema.show(target)}, which has no fields")
    items = [str(i) for i in range(len(target))]
    if step not in items:
        raise UserError(f"{origin}: {parent} has no item {schema.show(step)}; {allowed(step, items)}")
    return int(step)
