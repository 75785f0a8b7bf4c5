"""Text that is not YAML, or not allowed in an experiment file, is refused with its line and column."""

from pathlib import Path

import pytest

from kdmodels.errors import UserError
from kdmodels.experiment.file import LARGEST_FILE, read_experiment
from kdmodels.experiment.yaml_loader import DEEPEST
from tests.kdmodels.experiment.test_file import SHORT, error_of

MISTAKES = [  # replaced text in SHORT, its replacement, and the line of the error
    ("data: mnist", "data: mnist\ndata: digits", "3: data: already given at my.yaml:2, and again here at column 1"),
    ("[32]}, epochs", "[32]}, epochs: 1, epochs",
     "4: student.epochs: already given at my.yaml:4, and again here at column 44"),
    ("data: mnist", "data: {mnist", "3: invalid YAML at column 8: expected ',' or '}', but got ':'"),
    ("variants:", "promote: {require: {accuracy: >= 0.9}}\nvariants:",
     "5: invalid YAML at column 31: found character '>', which is not allowed here"),
    ("data: mnist", "data: &d mnist\nseed: *d",
     "3: column 7: an alias (*name) is not allowed; write out the value"),
    ("name: mine", "name: !!python/name:os.system x",
     "1: name: the tag !!python/name:os.system at column 7 is not allowed"),
    ("data: mnist", "data: {size: [8, !!binary eA==]}",
     "2: data.size.1: the tag !!binary at column 18 is not allowed"),
    ("name: mine", "name: mine\nseed: !!int five", "2: seed: 'five' at column 7 is not readable as int"),
    ("name: mine", "name: mine\nseed:\n  !!int five", "3: seed: 'five' at column 3 is not readable as int"),
    ("data: mnist", "data:\n  !!set {mnist}", "3: data: the tag !!set at column 3 is not allowed"),
    ("name: mine", 'name: "\\ud800"', r"1: name: '\ud800' at column 7 is not readable as str"),
    ("name: mine", "name: mine\n[1]: 2", "2: the name of a field at column 1 is not text"),
    ("{mlp: [32]}", "{mlp: [32], '': 2}", "4: student.network: the name of a field at column 32 is not text"),
    ("name: mine", "name: m\x07ne", "1: the character U+0007 at column 8 is not allowed"),
    ("data: mnist", "data: {source: \x7f}", "2: the character U+007F at column 16 is not allowed"),
    ("name: mine", "name: mine\n---\nname: mine", "2: invalid YAML at column 1: but found another document"),
    ("data: mnist", "data: " + "[" * DEEPEST, "2: column 56: nested more than 50 levels deep"),
    ("data: mnist", "data: {x: " + "{x: " * DEEPEST, "2: column 203: nested more than 50 levels deep"),
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("my.yaml")


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES, ids=[line for _, _, line in MISTAKES])
def test_each_mistake_gives_one_line(file: Path, old: str, new: str, line: str) -> None:
    assert SHORT.count(old) == 1
    assert error_of(file, SHORT.replace(old, new)) == f"my.yaml:{line}"


def test_unreadable_files_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^none\.yaml: No such file or directory$"):
        read_experiment(Path("none.yaml"))
    with pytest.raises(UserError, match=r": Is a directory$"):
        read_experiment(tmp_path)
    assert (
        error_of(file, b"#" * (LARGEST_FILE + 1)) == "my.yaml: not an experiment file: it is larger than 100000 bytes"
    )


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"name: \xff", "1: not UTF-8 text at column 7"),
        (b"name: mine\r\ndata: \xe4", "2: not UTF-8 text at column 7"),
        ("name: äö".encode() + b"\xe4", "1: not UTF-8 text at column 9"),  # of characters, not of bytes
        (b"name: mine\n\xc3", "2: not UTF-8 text at column 1"),
    ],
)
def test_bytes_that_are_not_utf_8_are_reported_with_line_and_column(file: Path, content: bytes, place: str) -> None:
    assert error_of(file, content) == f"my.yaml:{place}"


@pytest.mark.parametrize("opening", ["[", "{x: ", "- ", "? "])
def test_nesting_is_limited(file: Path, opening: str) -> None:
    deep = "nested more than 50 levels deep"
    assert deep not in error_of(file, opening * DEEPEST + "x")
    place = f"my.yaml:1: column {len(opening) * DEEPEST + 1}: {deep}"
    assert error_of(file, opening * (DEEPEST + 1) + "x") == error_of(file, opening * 10_000) == place


def test_plain_scalars_follow_yaml_1_2(file: Path) -> None:
    text = SHORT.replace("name: mine", "name: no").replace("[32]}", "[32]}, optimizer: {adam: {lr: 1e-3}}")
    file.write_text(text)
    experiment = read_experiment(file)
    assert experiment.name == "no"
    assert experiment.student.optimizer == {"adam": {"lr": 0.001}}
