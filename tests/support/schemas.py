"""A check of the documents that `--json` prints against the schemas in docs/schemas."""

import json
from collections.abc import Sequence
from pathlib import Path

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def check(words: Sequence[str], document: str) -> None:
    """Fail if the document of a command has not the documented form.

    Args:
        words: The words of the command after `kd`.
        document: What the command printed. Nothing is checked if it is empty.
    """
    if document:
        command, *options = words
        kind = next(
            (f"{command}{each[1:]}" for each in ("--dry-run", "--experiments", "--list") if each in options), command
        )
        file = FOLDER / f"{kind}.json"
        if not file.exists():  # `kd promote --dry-run` prints the same document as `kd promote`
            file = FOLDER / f"{command}.json"
        Draft202012Validator(json.loads(file.read_text())).validate(json.loads(document))
