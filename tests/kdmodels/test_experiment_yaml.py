"""What is no YAML, or none that an experiment file may hold, is refused by its line and column."""

from pathlib import Path

import pytest

from kdmodels.errors import UserError
from kdmodels.experiment_file import DEEPEST, LARGEST_FILE, read_experiment
from tests.kdmodels.test_experiment_file import SHORT, error_of

MISTAKES = [  # what is replaced in SHORT, by what, and the line that it gives
    ("data: mnist", "data: mnist\ndata: digits", "3: data: stands twice, here at column 1, before in my.yaml:2"),
    ("[32]}, epochs", "[32]}, epochs: 1, epochs",
     "4: student.epochs: stands twice, here at column 44, before in my.yaml:4"),
    ("data: mnist", "data: {mnist", "3: is not YAML at column 8: expected ',' or '}', but got ':'"),
    ("variants:", "promote: {require: {accuracy: >= 0.9}}\nvariants:",
     "5: is not YAML at column 31: found character '>' that cannot start any token"),
    ("data: mnist", "data: &d mnist\nseed: *d",
     "3: is not YAML at column 7: an alias (*name) is not read: write the value out"),
    ("name: mine", "name: !!python/name:os.system x",
     "1: name: the tag !!python/name:os.system at column 7 is not read"),
    ("data: mnist", "data: {size: [8, !!binary eA==]}",
     "2: data.size.1: the tag !!binary at column 18 is not read"),
    ("name: mine", "name: mine\nseed: !!int five", "2: seed: 'five' at column 7 is not readable as int"),
    ("name: mine", "name: mine\nseed:\n  !!int five", "3: seed: 'five' at column 3 is not readable as int"),
    ("data: mnist", "data:\n  !!set {mnist}", "3: data: the tag !!set at column 3 is not read"),
    ("name: mine", 'name: "\\ud800"', r"1: name: '\ud800' at column 7 is not readable as str"),
    ("name: mine", "name: mine\n[1]: 2", "2: the name of a field at column 1 is not text"),
    ("{mlp: [32]}", "{mlp: [32], '': 2}", "4: student.network: the name of a field at column 32 is not text"),
    ("name: mine", "name: m\x07ne", "1: the character U+0007 at column 8 is not allowed"),
    ("data: mnist", "data: {source: \x7f}", "2: the character U+007F at column 16 is not allowed"),
    ("name: mine", "name: mine\n---\nname: mine", "2: is not YAML at column 1: but found another document"),
    ("data: mnist", "data: " + "[" * DEEPEST, "2: is not YAML at column 56: is nested more than 50 deep"),
    ("data: mnist", "data: {x: " + "{x: " * DEEPEST, "2: is not YAML at column 203: is nested more than 50 deep"),
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("my.yaml")


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES, ids=[line for _, _, line in MISTAKES])
def test_a_mistake_is_one_line(file: Path, old: str, new: str, line: str) -> None:
    assert SHORT.count(old) == 1
    assert error_of(file, SHORT.replace(old, new)) == f"my.yaml:{line}"


def test_what_can_not_be_read(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^none\.yaml: No such file or directory$"):
        read_experiment(Path("none.yaml"))
    with pytest.raises(UserError, match=r": Is a directory$"):
        read_experiment(tmp_path)
    assert error_of(file, b"#" * (LARGEST_FILE + 1)) == "my.yaml: is larger than 100000 bytes: not an experiment file"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"name: \xff", "1: is not UTF-8 text at column 7"),
        (b"name: mine\r\ndata: \xe4", "2: is not UTF-8 text at column 7"),
        ("name: äö".encode() + b"\xe4", "1: is not UTF-8 text at column 9"),  # of characters, not of bytes
        (b"name: mine\n\xc3", "2: is not UTF-8 text at column 1"),
    ],
)
def test_a_byte_that_is_not_utf_8_is_named_by_its_place(file: Path, content: bytes, place: str) -> None:
    assert error_of(file, content) == f"my.yaml:{place}"


@pytest.mark.parametrize("opening", ["[", "{x: ", "- ", "? "])
def test_what_is_nested_is_read_to_some_depth_and_no_deeper(file: Path, opening: str) -> None:
    deep = "is nested more than 50 deep"
    assert deep not in error_of(file, opening * DEEPEST + "x")
    place = f"my.yaml:1: is not YAML at column {len(opening) * DEEPEST + 1}: {deep}"
    assert error_of(file, opening * (DEEPEST + 1) + "x") == error_of(file, opening * 10_000) == place


def test_plain_text_is_read_as_yaml_1_2(file: Path) -> None:
    text = SHORT.replace("name: mine", "name: no").replace("[32]}", "[32]}, optimizer: {adam: {lr: 1e-3}}")
    file.write_text(text)
    experiment = read_experiment(file)
    assert experiment.name == "no"
    assert experiment.student.optimizer == {"adam": {"lr": 0.001}}
