"""Functions that describe a user's own loss by a row like those of the loss catalogue.

A user's loss is a function or an `nn.Module` class of the user's own module, named as `module:name`. Its row is read
from its signature. The source code is parsed and never run, so that an experiment can be validated before the code is
allowed to run. `kdmodels/losses/user_loss.py` imports and checks the loss before the training.
"""

import ast
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import cast

from kdmodels.errors import allowed
from kdmodels.experiment.loss import Argument, Loss, Needs
from kdmodels.experiment.modules import locate

INPUTS = ("student_logits", "teacher_logits", "labels", "student_features", "teacher_features")
"""The allowed names of the positional arguments of a user's loss."""

SHAPES = ("student_shape", "teacher_shape", "classes")
"""The allowed names of the positional arguments with which the class of a user's loss is created."""

TYPES: Mapping[str, type[float | str]] = {"float": float, "int": int, "bool": bool, "str": str}
"""The types that a hyperparameter of a user's loss can have, by their name in an annotation."""

Definition = ast.FunctionDef | ast.ClassDef


def is_users(loss: str) -> bool:
    """Return whether a term names a user's own loss, as `module:name`."""
    return ":" in loss


def read_loss(name: str, reserved: Collection[str] = ()) -> Loss:
    """Return the row of a user's loss, from the signature in the source code. The code is not run.

    Args:
        name: The name of the loss, as `module:name`.
        reserved: Names that no hyperparameter may have, because a term has fields with these names.

    Raises:
        ValueError: The loss does not exist, or its signature is not valid.
    """
    definition = _definition(name)
    if isinstance(definition, ast.ClassDef):
        call, create = _method(definition, "forward"), _method(definition, "__init__")
        if call is None:
            raise ValueError(f"the class {definition.name} defines no forward. Allowed: an nn.Module that does")
        _require_known(_positional(call.args)[1:], INPUTS, "forward")
        _require_known(_positional(create.args)[1:] if create else [], SHAPES, "__init__")
        inputs, keywords = _positional(call.args)[1:], create.args if create else None
    else:
        inputs, keywords = _positional(definition.args), definition.args
        _require_known(inputs, INPUTS, definition.name)
    row = row_of(tuple(inputs))
    hyperparameters = dict(_arguments(keywords)) if keywords else {}
    for key in hyperparameters:
        if key in reserved:
            raise ValueError(f"the hyperparameter {key} has the name of a field of every term. Allowed: another name")
    return Loss(
        row.needs,
        file=name.partition(":")[0],
        formula=(ast.get_docstring(definition) or "no docstring").partition("\n")[0],
        paper="none: your own loss",
        weight="a number or auto, your choice",
        cost="not known",
        hyperparameters=hyperparameters,
        places=row.places,
        modules=definition.name if isinstance(definition, ast.ClassDef) else None,
        inputs=row.inputs,
    )


@cache  # every training step reads rows
def row_of(inputs: tuple[str, ...], *, softened: bool = False) -> Loss:
    """Return the row of a user's loss, as far as the names of the loss's positional arguments determine it.

    Args:
        inputs: The names, in order.
        softened: Whether the loss has a temperature. The logits of an ensemble are then combined at this temperature.

    Raises:
        ValueError: The loss takes no output of the student, or takes nothing with which to compare this output.
    """
    features = any(name.endswith("features") for name in inputs)
    parts = ["logits"] * ("teacher_logits" in inputs) + ["features"] * features + ["labels"] * ("labels" in inputs)
    if not any(name.startswith("student") for name in inputs) or not parts:
        raise ValueError(
            f"its positional arguments are {', '.join(inputs) or 'none'}. Allowed: student_logits or student_features, "
            f"and at least one of {', '.join(name for name in INPUTS if name != 'student_logits')}"
        )
    return Loss(
        cast(Needs, " and ".join(parts)),
        file="",
        formula="",
        paper="",
        weight="",
        cost="",
        places=("middle",) if features else (),
        ensemble="softened" if softened else "mean",
        inputs=inputs,
    )


def _definition(name: str) -> Definition:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        raise ValueError("expected module:name, such as mylosses:smooth_hint")
    file = locate(module, [os.getcwd()]).file
    if file is None:
        raise ValueError(f"the module {module} does not exist in the current folder or on Python's path")
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"the module {module} can't be read: {error}") from error
    definitions = {node.name: node for node in body if isinstance(node, Definition)}
    if attribute not in definitions:
        public = [known for known in definitions if not known.startswith("_")]
        raise ValueError(f"{module} defines no function or class {attribute!r}. {allowed(attribute, public)}")
    return definitions[attribute]


def _method(definition: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    methods = (node for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return next(methods, None)


def _positional(arguments: ast.arguments) -> list[str]:
    stars = [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    stars += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return [each.arg for each in [*arguments.posonlyargs, *arguments.args]] + stars


def _require_known(names: Sequence[str], known: Sequence[str], function: str) -> None:
    for name in names:
        if name not in known:
            hint = "Write hyperparameters after a *, as in f(student_logits, teacher_logits, *, temperature: float = 4)"
            raise ValueError(f"{function} has the positional argument {name!r}. {allowed(name, known)}. {hint}")


def _arguments(arguments: ast.arguments) -> Iterator[tuple[str, Argument]]:
    """Yield the name of each keyword-only argument, with its allowed values and its default."""
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        types, words = _annotation(argument)
        yield argument.arg, Argument(types, default is None, _constant(default), words)


def _constant(node: ast.expr | None) -> float | str | None:
    try:
        value = ast.literal_eval(node) if node is not None else None
    except ValueError:  # the default is an expression, and no code is run to compute its value
        return None
    return value if isinstance(value, int | float | str) else None


def _annotation(argument: ast.arg) -> tuple[tuple[type[float | str], ...], tuple[str, ...]]:
    """Return the types and the texts that an annotation allows. Without an annotation, all types are allowed.

    Raises:
        ValueError: The annotation is not a type of `TYPES`, a union of them or a `Literal` of texts.
    """
    node = argument.annotation
    if node is None:
        return tuple(TYPES.values()), ()
    text = ast.unparse(node)
    names = [name for part in text.split("|") if (name := part.strip()) != "None"]
    if names and all(name in TYPES for name in names):
        return tuple(TYPES[name] for name in names), ()
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "Literal":
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        words = tuple(item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str))
        if len(words) == len(items):
            return (str,), words
    kinds = f"{', '.join(TYPES)}, several of them with |, or Literal['a', 'b']"
    raise ValueError(f"the hyperparameter {argument.arg} has the annotation {text}. Allowed: {kinds}")
