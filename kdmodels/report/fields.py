"""The text of the page docs/fields.md, which lists every field of the experiment file."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel

from kdmodels.experiment import Experiment, GeneratorExperiment
from kdmodels.experiment.optimization import OPTIMIZERS, SCHEDULES
from kdmodels.experiment.recipe import Recipe
from kdmodels.experiment.schema import NAME, NOUNS, JsonSchema, limits_in_words, name_in_words, show

INTRODUCTION = """\
# Fields of the experiment file

Made by `make docs` from the pydantic models in `kdmodels/experiment`; a test keeps it so. `kd init mine.yaml` writes a
file with these fields and their defaults, except those of [a generator](generators.md).
[The experiment file](experiment-file.md) explains what belongs together.

A field without a default is required. A value is never converted: `"5"` is not a number. An unknown field is an error.
"""

TABLES: dict[str, Mapping[str, type[BaseModel]]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
"""The models of all optimizers and schedules, by name. A recipe's field `optimizer` or `schedule` holds one of them."""

Sections = dict[type[BaseModel], str]
"""The heading of the section that describes each model."""


def document() -> str:
    """Return the text of the page docs/fields.md."""
    sections: Sections = {}
    for model, path in [*_models(Experiment, ""), *_models(GeneratorExperiment, "")]:
        sections.setdefault(model, "experiment of a generator" if model is GeneratorExperiment else path)
    schemas = [model.model_json_schema() for model in (Experiment, GeneratorExperiment)]
    schema = schemas[0] | {"$defs": schemas[0]["$defs"] | schemas[1]["$defs"]}
    pages = [_section(model, schema, sections) for model in sections]
    return "\n".join([INTRODUCTION, *pages])


def _models(model: type[BaseModel], path: str) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield a model and the models of all fields inside it, each with the path of its field."""
    yield model, path or "experiment"
    for name, field in model.model_fields.items():
        inner = f"{path}.{name}" if path else name
        if issubclass(model, Recipe) and name in TABLES:
            for key, entry in TABLES[name].items():
                yield entry, f"{inner}: {key}"
            continue
        parts = list(dict.fromkeys(_parts(field.annotation)))
        for part in parts:
            yield from _models(part, inner if len(parts) == 1 else f"{inner}: {_key(part)}")


def _parts(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, list, tuple, Annotated):
        for argument in get_args(annotation):
            yield from _parts(argument)


def _key(model: type[BaseModel]) -> str:
    """Return the name of a model's first field. If a field allows several models, this name tells them apart."""
    return next(iter(model.model_fields))


def _section(model: type[BaseModel], schema: JsonSchema, sections: Sections) -> str:
    lines = [f"## {sections[model]}", "", _about(model), ""]
    for larger in sections:
        more = [f"`{name}`" for name in larger.model_fields if name not in model.model_fields]
        if issubclass(larger, model) and more:
            same = f"The fields are those of {_link(sections[larger])}, without {', '.join(more)}."
            return "\n".join([*lines, same, ""])
    own = model.model_json_schema() | {"$defs": schema["$defs"]}
    node = own["$defs"].get(model.__name__, own)
    lines += ["| field | value | default | meaning |", "|---|---|---|---|"]
    for name, field in node["properties"].items():
        table = TABLES[name] if issubclass(model, Recipe) and name in TABLES else {}
        links = [_link(sections[entry]) for entry in table.values()]
        value = f"one of {', '.join(links)}" if links else _in_words(field, _headings(sections))
        default = "" if name in node.get("required", ()) else _default(field)
        meaning = field.get("description") or _first_sentence(field, schema)
        lines.append(f"| `{name}` | {value} | {default} | {_cell(meaning)} |")
    return "\n".join([*lines, ""])


def _about(model: type[BaseModel]) -> str:
    """Return the docstring of a model without its examples and references."""
    text = (model.__doc__ or "").partition(">>>")[0].partition("References:")[0]
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _first_sentence(field: JsonSchema, schema: JsonSchema) -> str:
    """Return the first sentence of the docstring of a field's model."""
    about = schema["$defs"][field["$ref"].rsplit("/", 1)[-1]]["description"]
    return str(about).partition("\n\n")[0].partition(". ")[0].rstrip(".") + "."


def _headings(sections: Sections) -> dict[str, str]:
    return {model.__name__: heading for model, heading in sections.items()}


def _link(heading: str) -> str:
    """Return a link to a section. Like GitHub, leave out the punctuation of the heading in the link's anchor.

    >>> _link("data.augment: jitter")
    '[data.augment: jitter](#dataaugment-jitter)'
    """
    anchor = "".join(character for character in heading.lower() if character.isalnum() or character in "_- ")
    return f"[{heading}](#{anchor.replace(' ', '-')})"


def _in_words(node: JsonSchema, headings: Mapping[str, str]) -> str:
    """Describe the allowed values of a field, given its part of the JSON schema."""
    if "$ref" in node:
        return _link(headings[node["$ref"].rsplit("/", 1)[-1]])
    if "anyOf" in node:
        words = [_in_words(choice, headings) for choice in node["anyOf"]]
        text = " or ".join(dict.fromkeys(word for word in words if word != "null"))
        return f"{text}, or null" if "null" in words else text
    if "enum" in node or "const" in node:
        choices = node["enum"] if "enum" in node else [node["const"]]
        return ", ".join(f"`{show(choice) if not isinstance(choice, str) else choice}`" for choice in choices)
    if node.get("type") == "null":
        return "null"
    if node.get("pattern") == NAME:
        return name_in_words(node.get("maxLength", 100))
    value = " ".join(filter(None, (NOUNS.get(str(node.get("type")), "any value"), limits_in_words(node))))
    if node.get("type") == "array" and "items" in node:
        return f"{value}; each item: {_in_words(node['items'], headings)}"
    if isinstance(node.get("additionalProperties"), dict):
        return f"{value}; each value: {_in_words(node['additionalProperties'], headings)}"
    return value


def _default(field: JsonSchema) -> str:
    default = field.get("default")
    if isinstance(default, dict) and "$ref" in field:
        return "the defaults of its fields"
    return f"`{show(default) if not isinstance(default, str) else default}`" if default != "" else "see the meaning"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    print(document(), end="")
