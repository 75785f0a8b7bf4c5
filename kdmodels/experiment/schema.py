"""The base class of all parts of an experiment file, and functions that convert pydantic's errors to plain messages."""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from kdmodels.errors import allowed

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
JsonSchema = dict[str, Any]

# Latin, Greek, Cyrillic, Chinese, Japanese and Korean letters, as ranges that every regex engine and JSON schema knows
LETTERS = "A-Za-zÀ-ÖØ-öø-ɏͰ-ͽͿ-ϿЀ-ҁҊ-ԯぁ-ゖァ-ヺ一-鿿가-힣"
NAME = rf"^[{LETTERS}0-9]([{LETTERS}0-9 ._+=-]{{0,98}}[{LETTERS}0-9._+=-])?$"
NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def is_code(name: object) -> bool:
    """Return whether a value names a class or function of the user, as `module:name`.

    >>> is_code("my.metrics:cost"), is_code("cost"), is_code("my-metrics:cost"), is_code(1)
    (True, False, False, False)
    """
    return isinstance(name, str) and name.count(":") == 1 and all(map(str.isidentifier, re.split("[.:]", name)))


def mistake(message: str, *path: str | int) -> PydanticCustomError:
    """Return the error that a validator raises for a wrong value.

    Args:
        message: The part of the error message that follows the name of the field.
        path: The path of the wrong field, relative to the validated value.
    """
    return PydanticCustomError("mistake", "{message}", {"message": message, "path": path})


def combined(mistakes: Sequence[PydanticCustomError]) -> ValidationError:
    """Combine several mistakes into one error that a validator can raise."""
    return ValidationError.from_exception_data("several", [{"type": each, "input": None} for each in mistakes])


def show(value: object) -> str:
    """Return a value as YAML, with text in quotes. The result is truncated to 80 characters.

    >>> show("five"), show(None), show(True), show([1, 2])
    ("'five'", 'null', 'true', '[1, 2]')
    """
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


class Part(BaseModel):
    """The base class of the parts of an experiment file.

    A part is frozen. It converts no types: the text "5" is not a number. It refuses unknown fields, infinity and NaN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, raw: object) -> object:
        """Report unknown fields together with all mistakes in the known fields.

        An unknown field is often a misspelled required field. If a required field is missing and its name is similar to
        an unknown field's name, only the unknown field is reported.
        """
        unknown = [name for name in raw if name not in cls.model_fields] if isinstance(raw, dict) else []
        if not isinstance(raw, dict) or not unknown:
            return raw
        mistakes = [mistake(f"unknown field. {allowed(str(name), cls.model_fields)}", name) for name in unknown]
        try:
            cls.model_validate({name: value for name, value in raw.items() if name not in unknown})
        except ValidationError as error:
            meant = {near for name in unknown for near in get_close_matches(str(name), cls.model_fields, n=1)}
            details = [each for each in error.errors() if each["type"] != "missing" or each["loc"][0] not in meant]
            mistakes += [mistake(message, *path) for path, message in (explain(each, cls) for each in details)]
        raise combined(mistakes)


def parse(model: type[Model], raw: object, *path: str | int) -> Model:
    """Validate a nested value. Validators of the outer value call this function.

    Args:
        model: The model of the nested value.
        raw: The nested value.
        path: The path of the nested value, relative to the outer value.

    Returns:
        The nested value as an instance of the model.

    Raises:
        ValidationError: The nested value is wrong. The error describes each mistake in plain words, with a path that
            starts with `path`.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        explained = [explain(detail, model) for detail in error.errors()]
        raise combined([mistake(message, *path, *inner) for inner, message in explained]) from None


def name_in_words(longest: int = 100) -> str:
    """Return a description of the names that are allowed. `longest` is the maximum number of characters."""
    return f"at most {longest} letters, digits, spaces and signs (. _ + = -), where the first is a letter or a digit"


def explain(error: ErrorDetails, model: type[BaseModel]) -> tuple[Path, str]:
    """Convert an error from pydantic to the path of the wrong field and a message of one line.

    Args:
        error: One item of `ValidationError.errors()`.
        model: The model whose validation failed.
    """
    path, kind, value = error["loc"], error["type"], error["input"]
    if kind == "mistake":
        return path + tuple(error["ctx"]["path"]), error["ctx"]["message"]
    node = _node(_json_schema(model), path)
    if kind == "missing":
        return path, f"missing. Expected {_expected(node)}"
    if kind == "literal_error":
        return path, f"unknown value {show(value)}. {allowed(str(value), node['enum'])}"
    if kind == "string_pattern_mismatch" and node.get("pattern") == NAME:
        return path, f"expected a name, got {show(value)}. Allowed: {name_in_words(node.get('maxLength', 100))}"
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        fields = node.get("properties")
        return path, f"expected a mapping, got {show(value)}{f'. {allowed(str(), fields)}' if fields else ''}"
    if kind == "finite_number":
        return path, f"expected a finite number, got {show(value)}"
    if kind.endswith("_type") or limits_in_words(node):
        quoted = ". Write the number without quotes" if isinstance(value, str) and value.isdecimal() else ""
        return path, f"expected {_expected(node)}, got {show(value)}{quoted}"
    return path, f"{error['msg']}, got {show(value)}"


@cache
def _json_schema(model: type[BaseModel]) -> JsonSchema:
    return model.model_json_schema()  # this takes 20 ms for an experiment


def _node(schema: JsonSchema, path: Path) -> JsonSchema:
    """Return the part of a JSON schema that describes the field at a path. `{}` if the schema has no such field."""
    node = schema
    for step in (None, *path):
        if isinstance(step, int):
            node = node.get("items", {})
        elif step is not None:
            node = node.get("properties", {}).get(step, {})
        if "anyOf" in node:  # pydantic writes `| None` as anyOf
            node = {**next(choice for choice in node["anyOf"] if choice.get("type") != "null"), "nullable": True}
        if "$ref" in node:
            node = {**schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], "nullable": node.get("nullable", False)}
        if "const" in node:  # pydantic writes a literal with one choice as const
            node = {**node, "enum": [node["const"]]}
    return node


def _expected(node: JsonSchema) -> str:
    """Return the allowed values of a field, in words.

    >>> _expected({"type": "integer", "minimum": 1, "maximum": 9, "nullable": True})
    'a whole number from 1 to 9, or null'
    """
    choices = node.get("enum")
    words = f"one of {', '.join(map(str, choices))}" if choices else NOUNS.get(str(node.get("type")), "a value")
    limits = limits_in_words(node)
    null = ", or null" if node.get("nullable") and limits else ""
    return f"{words} {limits}{null}" if limits else words


def limits_in_words(node: JsonSchema) -> str:
    """Return the limits of a value in words, given its part of a JSON schema. Empty if there are no limits.

    >>> limits_in_words({"exclusiveMinimum": 0, "maximum": 100}), limits_in_words({"type": "string"})
    ('above 0 and of at most 100', '')
    """
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f"from {low} to {high}"
    if "minItems" in node and node["minItems"] == node.get("maxItems"):
        return f"of {node['minItems']} items"
    words = {
        "minimum": "of at least {:g}",
        "exclusiveMinimum": "above {:g}",
        "maximum": "of at most {:g}",
        "exclusiveMaximum": "below {:g}",
        "minItems": "that is not empty" if node.get("minItems") == 1 else "of at least {:g} items",
        "maxItems": "of at most {:g} items",
        "minLength": "that is not empty",
        "maxLength": "of at most {:g} characters",
        "multipleOf": "a multiple of {:g}",
    }
    return " and ".join(text.format(node[key]) for key, text in words.items() if key in node)
