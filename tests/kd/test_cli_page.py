"""docs/cli.md agrees with the commands, and docs/exit-codes.md with the exit codes."""

import re
from pathlib import Path

from kd import exit_codes
from kd.cli_page import document
from kd.main import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_document_is_up_to_date() -> None:
    assert (DOCS / "cli.md").read_text() == document(), "run: make docs"


def test_every_command_is_described_with_its_options() -> None:
    text = document()
    assert re.findall(r"^## kd (.*)", text, re.MULTILINE) == list(COMMANDS)
    assert "Usage: `kd predict [OPTIONS] MODEL PATH...`" in text
    assert "Usage: `kd down`" in text
    assert "| `-q, --quiet` | Do not show progress. |" in text
    assert "| `--reason TEXT` | Reason. Stored with the model version. [required] |" in text


def test_every_exit_code_is_documented() -> None:
    documented = re.findall(r"^\| (\d+) \|", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)
    codes = [value for name, value in vars(exit_codes).items() if name.isupper()]
    assert [int(code) for code in documented] == codes
