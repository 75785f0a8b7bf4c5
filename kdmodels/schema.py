"""The base of everything that an experiment file may say, and pydantic's errors in plain words."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from kdmodels.errors import allowed

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

NAME = r"^[A-Za-z0-9]([A-Za-z0-9 ._+=-]{0,98}[A-Za-z0-9._+=-])?$"
NAME_IN_WORDS = "letters, digits, space . _ + = -, beginning with a letter or digit, at most 100"
NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def mistake(message: str, *path: str | int) -> PydanticCustomError:
    """An error for a validator to raise, at a path below the value that is being validated."""
    return PydanticCustomError("mistake", "{message}", {"message": message, "path": path})


def several(mistakes: Sequence[PydanticCustomError]) -> ValidationError:
    """Several of them, for a validator to raise at once."""
    return ValidationError.from_exception_data("several", [{"type": each, "input": None} for each in mistakes])


def show(value: object) -> str:
    """A value as a user wrote it: text in quotes, YAML's null, true and false; cut when long.

    >>> show("five"), show(None), show(True), show([1, 2])
    ("'five'", 'null', 'true', '[1, 2]')
    """
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


class Part(BaseModel):
    """A piece of an experiment: frozen, no conversion of types, and nothing that is not built is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    later: ClassVar[Mapping[str, Any]] = {}
    """Fields that are named but not built: accepted at this value alone, then dropped."""
    later_choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Choices of built fields that are named but not built."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_built(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        found: dict[str, PydanticCustomError] = {}
        for name, value in raw.items():
            try:
                cls._refuse_field(name, value)
            except PydanticCustomError as error:
                found[name] = error
        kept = {name: value for name, value in raw.items() if name not in cls.later and name not in found}
        if not found:
            return kept
        more: list[PydanticCustomError] = []
        try:
            cls.model_validate(kept)  # what else is wrong
        except ValidationError as error:
            meant = {near for name in found for near in get_close_matches(str(name), cls.model_fields, n=1)}
            details = [one for one in error.errors() if one["type"] != "missing" or one["loc"][0] not in meant]
            more = [mistake(message, *where) for where, message in (explain(one, cls) for one in details)]
        raise several([*found.values(), *more])

    @classmethod
    def _refuse_field(cls, name: str, value: object) -> None:
        if name in cls.later:
            _require_default(value, cls.later[name], name)
        elif name not in cls.model_fields:
            raise mistake(f"is not a field; {allowed(str(name), cls.model_fields)}", name)
        elif isinstance(value, str) and value in cls.later_choices.get(name, ()):
            choices = _node(_json_schema(cls), (name,)).get("enum", [])
            raise mistake(f"{show(value)} is not built yet; allowed: {', '.join(choices)}", name)


def _require_default(value: object, default: object, *path: str) -> None:
    if isinstance(value, dict) and isinstance(default, dict):
        for name, inner in value.items():
            if name not in default:
                raise mistake(f"is not a field; {allowed(str(name), default)}", *path, name)
            _require_default(inner, default[name], *path, name)
    elif type(value) is not type(default) or value != default:
        raise mistake(f"{show(value)} is not built yet; allowed: {show(default)}", *path)


def parse(model: type[Model], raw: object, *path: str | int) -> Model:
    """Validate within a validator: errors are raised at `path`, where the user wrote it, in plain words."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = [explain(detail, model) for detail in error.errors()]
        raise several([mistake(message, *path, *inner) for inner, message in found]) from None


def explain(error: ErrorDetails, model: type[BaseModel]) -> tuple[Path, str]:
    """One of pydantic's errors as the path of the field and a line that says its value and what is allowed."""
    path, kind, value = error["loc"], error["type"], error["input"]
    if kind == "mistake":
        return path + tuple(error["ctx"]["path"]), error["ctx"]["message"]
    node = _node(_json_schema(model), path)
    noun, limits = NOUNS.get(str(node.get("type")), "a value"), _limits(node)
    if kind == "missing":
        return path, f"is missing: {noun}{limits and ', ' + limits}"
    if kind == "literal_error":
        return path, f"{show(value)} is not known; {allowed(str(value), node['enum'])}"
    if kind == "string_pattern_mismatch" and node.get("pattern") == NAME:
        return path, f"{show(value)} is not a name (allowed: {NAME_IN_WORDS})"
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        return path, f"{show(value)} is not a mapping; {allowed('', node.get('properties', {}))}"
    if kind.endswith("_type"):
        return path, f"{show(value)} is not {noun}{limits and f' (allowed: {limits})'}"
    if kind == "finite_number":
        return path, f"{show(value)} is not a finite number"
    if kind.endswith(("too_short", "too_long")):
        return path, f"{show(value)} is too {kind.rpartition('_')[2]} (allowed: {limits})"
    if limits:
        return path, f"{show(value)} is out of range (allowed: {limits})"
    return path, f"{show(value)}: {error['msg']}"


@cache
def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()  # 20 ms of an experiment


def _node(schema: dict[str, Any], path: Path) -> dict[str, Any]:
    """The part of a JSON schema that describes the field at a path; empty where there is none."""
    node = schema
    for step in (None, *path):
        if isinstance(step, int):
            node = node.get("items", {})
        elif step is not None:
            node = node.get("properties", {}).get(step, {})
        if "anyOf" in node:  # pydantic's spelling of `| None`
            node = {**next(choice for choice in node["anyOf"] if choice.get("type") != "null"), "nullable": True}
        if "$ref" in node:
            node = {**schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], "nullable": node.get("nullable", False)}
        if "const" in node:  # a literal of one choice
            node = {**node, "enum": [node["const"]]}
    return node


def _limits(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    limits = [f"{low} to {high}"] if low is not None and high is not None else []
    words = {
        "minimum": "{:g} or more",
        "exclusiveMinimum": "above {:g}",
        "maximum": "at most {:g}",
        "exclusiveMaximum": "below {:g}",
        "minItems": "at least {:g} in it",
        "maxItems": "at most {:g} in it",
        "minLength": "not empty",
        "maxLength": "at most {:g} characters",
        "multipleOf": "a multiple of {:g}",
    }
    limits = limits or [text.format(node[key]) for key, text in words.items() if key in node]
    text = " and ".join(limits) or ", ".join(node.get("enum", []))
    return f"{text}, or null" if text and node.get("nullable") else text
