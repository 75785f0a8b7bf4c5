"""A safe YAML reader that also returns the line of every value.

Only this module uses undocumented parts of PyYAML.
"""

import re
from collections.abc import Callable
from typing import NoReturn

import yaml
from pydantic import JsonValue

from kdmodels.errors import UserError
from kdmodels.experiment import schema

DEEPEST = 50  # levels of nesting; an experiment file has about 10

Place = tuple[int, str]
"""Where a value was given: a line number, for sorting, and the text with which an error message begins."""
Places = dict[schema.Path, Place]


class _RefusedError(yaml.MarkedYAMLError):
    """An error for valid YAML that is not allowed in an experiment file."""


class _Loader(yaml.SafeLoader):
    """A loader that reads unquoted values by the rules of YAML 1.2.

    YAML 1.1, which is PyYAML's default, reads `1e-3` as text, `no` as false and `1:30` as 90.

    The loader refuses aliases. No experiment needs an alias, and a few lines of aliases can expand to gigabytes. The
    loader also refuses deep nesting, before Python's recursion limit is reached.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - typed so by PyYAML
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.refuse("an alias (*name) is not allowed; write out the value")
        if self.depth == DEEPEST and self.check_event(yaml.CollectionStartEvent):
            self.refuse(f"nested more than {DEEPEST} levels deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def refuse(self, problem: str) -> NoReturn:
        raise _RefusedError(problem=problem, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]


_TAG = "tag:yaml.org,2002:"
_KINDS: dict[str, tuple[str | None, Callable[[str], JsonValue]]] = {
    "null": (r"|~|null|Null|NULL", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+", int),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    "str": (None, lambda text: text.encode().decode()),  # ValueError for a lone surrogate such as "\ud800"
}
for _kind, (_pattern, _) in _KINDS.items():
    if _pattern is not None:
        _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})\\Z"), None)


def load(text: str, place: Callable[[int], Place], path: schema.Path = ()) -> tuple[JsonValue, Places]:
    """Parse a YAML text. Return its value, and where each inner value was given.

    Args:
        text: The YAML text.
        place: A function that returns the place of a line. Its argument is the number of the line, counted from 1.
        path: The path of the field that the text sets, e.g. `("student", "epochs")`. The path of each inner value
            starts with this path. Default: the text is a whole experiment.

    Raises:
        UserError: The text is not YAML, or contains a tag or an alias.
    """
    places: Places = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _value(node, path, place, places), {path: place(1), **places}
    except yaml.MarkedYAMLError as error:
        line, column = (mark.line + 1, mark.column + 1) if (mark := error.problem_mark) else (1, 1)
        problem = (error.problem or "").replace(" that cannot start any token", ", which is not allowed here")
        invalid = "" if isinstance(error, _RefusedError) else "invalid YAML at "
        raise UserError(f"{place(line)[1]}: {invalid}column {column}: {problem}") from error
    except yaml.reader.ReaderError as error:
        line, column = line_and_column(text[: error.position])
        message = f"the character U+{error.character:04X} at column {column} is not allowed"
        raise UserError(f"{place(line)[1]}: {message}") from error


def line_and_column(before: str) -> tuple[int, int]:
    """Return the line and the column of the character that follows a text. Both are counted from 1."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def sentence(place: Place, path: schema.Path, message: str) -> str:
    """Return an error message that begins with a place and the name of a field.

    If an override sets the field, the place already contains the name of the field, which is then not repeated.
    """
    field = ".".join(map(str, path))
    return f"{place[1]}: {message}" if place[1] == f"--set {field}" or not field else f"{place[1]}: {field}: {message}"


def _value(node: yaml.Node, path: schema.Path, place: Callable[[int], Place], places: Places) -> JsonValue:
    places.setdefault(path, place(node.start_mark.line + 1))  # for a field, the place of its name is already set
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_value(item, (*path, i), place, places) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(node, path, place, places)
    # The line and the column of the value, not of the field's name.
    here, column = place(node.start_mark.line + 1), node.start_mark.column + 1
    if not isinstance(node, yaml.ScalarNode) or kind not in _KINDS:
        message = f"the tag {node.tag.replace(_TAG, '!!')} at column {column} is not allowed"
        raise UserError(sentence(here, path, message))
    try:
        return _KINDS[kind][1](node.value)
    except ValueError as error:  # causes: an explicit tag, thousands of digits, or a lone surrogate
        message = f"{schema.show(node.value)} at column {column} is not readable as {kind}"
        raise UserError(sentence(here, path, message)) from error


def _mapping(
    node: yaml.MappingNode, path: schema.Path, place: Callable[[int], Place], places: Places
) -> dict[str, JsonValue]:
    mapping: dict[str, JsonValue] = {}
    for key, value in node.value:
        here, column = place(key.start_mark.line + 1), key.start_mark.column + 1
        if not isinstance(key, yaml.ScalarNode) or not key.value or not key.value.isprintable():
            raise UserError(sentence(here, path, f"the name of a field at column {column} is not text"))
        field = (*path, key.value)
        if key.value in mapping:
            message = f"already given at {places[field][1]}, and again here at column {column}"
            raise UserError(sentence(here, field, message))
        places[field] = here
        mapping[key.value] = _value(value, field, place, places)
    return mapping
