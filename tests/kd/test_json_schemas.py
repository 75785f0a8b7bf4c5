"""docs/schemas agrees with the code. The fixture `kd_here` checks the output of each command against its schema."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from kd.json_schemas import schemas
from tests.support.schemas import FOLDER, check

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
CLI = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_files_are_up_to_date() -> None:
    assert {file.name: file.read_text() for file in FOLDER.iterdir()} == schemas(), "run: make docs"


def test_every_command_with_json_output_has_a_schema() -> None:
    sections = re.split(r"^## kd ", CLI.read_text(), flags=re.MULTILINE)
    commands = [section.partition("\n")[0] for section in sections if "| `--json` |" in section]
    assert "run" in commands
    assert [command for command in commands if f"{command}.json" not in schemas()] == []
    assert [name for name in schemas() if f"(schemas/{name})" not in PAGE.read_text()] == []


def test_the_schemas_are_valid() -> None:
    for file in FOLDER.iterdir():
        Draft202012Validator.check_schema(json.loads(file.read_text()))


def test_a_document_of_another_form_is_refused() -> None:
    document = {
        "model": "a",
        "version": 1,
        "run_id": "b",
        "reused": True,
        "metrics": {"val/accuracy": None},
        "warnings": [],
    }
    check(["teacher", "--json"], json.dumps(document))
    with pytest.raises(ValidationError, match="'more' was unexpected"):
        check(["teacher", "--json"], json.dumps(document | {"more": 1}))
    del document["version"]
    with pytest.raises(ValidationError, match="'version' is a required property"):
        check(["teacher", "--json"], json.dumps(document))
