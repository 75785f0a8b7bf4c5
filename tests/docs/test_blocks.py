"""Each block of README.md and docs/ is run, or says why not. Each experiment and each option in them exists."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.main import COMMANDS
from kdmodels.experiment.file import read_any_experiment
from kdmodels.experiment.yaml_loader import load
from tests.conftest import SMALL
from tests.docs.blocks import PAGES, ROOT, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
PROGRAM = re.compile(r"(\$ )?(kd|make|docker|python3?|pip|uv|prefect|mlflow|export|git) \S")
COMPLETE = {"name", "data", "teacher", "student", "variants"}


def in_words(block: Block) -> str:
    return block.place


def test_languages_are_those_that_are_run() -> None:
    assert {block.language for block in BLOCKS} == {"", "sh", "python", "yaml"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.language], ids=in_words)
def test_a_block_without_a_language_holds_no_command(block: Block) -> None:
    assert [line for line in block.text.splitlines() if PROGRAM.match(line)] == [], f"{block.place}: write ```sh"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.run_by], ids=in_words)
def test_a_block_that_another_test_runs_names_a_test_of_its_page(block: Block) -> None:
    assert block.page.name in (ROOT / block.run_by).read_text(), f"{block.place}: {block.run_by} does not run it"


def test_a_reason_stands_right_before_a_block() -> None:
    for page in PAGES:
        marked = [block for block in blocks(page) if block.not_run or block.run_by]
        comments = [line for line in page.read_text().splitlines() if re.match(r" *<!-- (not )?run", line)]
        assert len(comments) == len(marked), page.name


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=in_words)
def test_an_experiment_is_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the signatures of losses are read from the files of the page
    for shown in blocks(block.page):
        if shown.language == "python" and shown.file:
            Path(shown.file).write_text(shown.text)
    file = tmp_path / "experiment.yaml"
    part, _ = load(block.text, lambda line: (line, block.place))
    assert isinstance(part, dict)
    if part.keys() >= COMPLETE or "generator" in part:
        file.write_text(block.text)
    else:
        part = {"variants": [{"name": "mine", **part}]} if "terms" in part else part
        file.write_text(yaml.safe_dump(_merged(SMALL | {"name": "part"}, part)))
    read_any_experiment(file)


def _merged(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment with the fields of a part of an experiment file."""
    both = {name: base[name] | part[name] for name in part if isinstance(base.get(name), dict) and _is_dict(part[name])}
    return base | part | both


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def options() -> dict[str, set[str]]:
    """Return the options of each command, as docs/cli.md lists them."""
    sections = (ROOT / "docs" / "cli.md").read_text().split("\n## kd ")[1:]
    found = {}
    for section in sections:
        names = re.findall(r"^\| `(-[^`]*)`", section, re.MULTILINE)
        words = [word.strip(",") for name in names for word in name.split() if word.startswith("-")]
        found[section.partition("\n")[0]] = {*words, "--help", "-h"}
    return found


def commands(page: Path) -> list[str]:
    """Return the commands of kd on a page: inside a line, and in blocks without their comments."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`(kd [a-z][^`]*)`", text)
    in_blocks = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    return inline + [re.split(r"\s+#|[|>]", line)[0].strip() for line in in_blocks if line.startswith("kd ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    known = options()
    assert known.keys() == COMMANDS.keys()
    for command in commands(page):
        _, name, *words = shlex.split(command)
        assert name in COMMANDS, f"{page.name}: {command}"
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= known[name], f"{page.name}: {command}"
