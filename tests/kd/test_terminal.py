"""Terminal escapes in names from the store, from files and from the command line are printed as text."""

import csv
import json
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from kd import console
from kd.commands import gc, show
from kd.outcome import print_outcome
from kd.progress import Line, plain_lines, print_warnings, progress_table
from kdmodels.text import escaped
from tasks import tracking
from tasks.cleanup.gc import Deleted
from tasks.listings import ClassLine
from tasks.references import Outcome
from tests.conftest import Here, Recorded

EVIL = "x\x1b]0;owned\x07\x1b[2J\x9b31m\u202eyes\u2066\x7f\r\x08"
CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def control_characters(text: str) -> str:
    """Return the characters that a terminal would execute, except line ends."""
    return "".join(character for character in text if unicodedata.category(character) in CONTROL and character != "\n")


@pytest.fixture
def evil(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A copy of the filled ledger in which every name contains terminal escapes."""
    database = recorded.uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(tmp_path / "mlflow.db")) as target:
        source.backup(target)
        target.execute("UPDATE runs SET name = name || ?", [EVIL])
        target.execute("UPDATE tags SET value = value || ? WHERE key = 'mlflow.runName'", [EVIL])
        target.execute("UPDATE experiments SET name = name || ?", [EVIL])
        target.execute("UPDATE params SET value = value || ? WHERE key NOT LIKE 'promote%'", [EVIL])
        runs = [run for (run,) in target.execute("SELECT run_uuid FROM runs")]
        tags = [
            (key, text, run) for run in runs for key, text in (("kd.error", EVIL), ("kd.data_dir", f"{EVIL}\nname: z"))
        ]
        target.executemany("INSERT OR REPLACE INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
        target.commit()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("KD_DEBUG", "")
    tracking.configure()
    return recorded


def test_no_command_prints_control_characters(evil: Recorded, kd_here: Here) -> None:
    student = next(run for run in tracking.children(evil.first) if run.kind == "student")
    for words in (
        ["list"],
        ["list", "--experiments"],
        ["show", evil.first],
        ["show", evil.unfinished],
        ["show", student.run_id],
        ["show", student.run_id, "--spec"],
        ["compare"],
        ["compare", evil.first, evil.again],
        ["compare", evil.first, evil.other, "--markdown"],
        ["compare", evil.unfinished],
        ["doctor"],
        ["doctor", "--dry-run"],
        ["gc", "--older-than", "1h", "--dry-run"],
        ["promote", evil.unfinished],
        ["--debug", "promote", evil.unfinished],
        ["export", evil.unfinished, "--onnx"],
        ["predict", f"nobody{EVIL}", "x.png"],
        ["run", f"nowhere{EVIL}.yaml"],
        ["run", "digits", "--set", f"student.epochs={EVIL}"],
        ["run", "digits", "--variants", EVIL],
        ["init", f"no/such/{EVIL}.yaml"],
    ):
        _, out, err = kd_here(*words)
        assert out + err
        assert control_characters(out + err) == "", words
    assert r"\x1b]0;owned" in kd_here("list")[1]
    assert r"\x9b31m\u202eyes" in kd_here("show", evil.first)[1]


def test_json_csv_and_yaml_hold_the_names_unchanged(evil: Recorded, kd_here: Here) -> None:
    rows = json.loads(kd_here("list", "--json")[1])
    assert all(row["name"].endswith(EVIL) for row in rows)
    _, out, _ = kd_here("compare", evil.first, "--csv")
    assert len(list(csv.DictReader(out.splitlines()))) == 2
    student = next(run for run in tracking.children(evil.first) if run.kind == "student")
    raw = yaml.safe_load(kd_here("show", student.run_id, "--spec")[1])
    assert raw["name"] == "small"  # the second line of the folder's name was not read as a field


def test_file_names_are_escaped(recorded: Recorded, kd_here: Here, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        (tmp_path / "data" / str(number) / f"{EVIL}.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{EVIL}.png")
    out_file = tmp_path / f"{EVIL}.csv"
    for words in (
        ["predict", "small-student", str(tmp_path / "data")],
        ["predict", "small-student", str(tmp_path / f"{EVIL}.gif")],
        ["predict", "small-student", str(tmp_path / f"{EVIL}.png"), "-o", str(out_file)],
        ["predict", "small-student", str(tmp_path / f"{EVIL}.png"), "-o", str(tmp_path / EVIL / "x")],
        ["export", "small-student", "--onnx", "-o", str(tmp_path / EVIL / "x.onnx")],
        ["init", str(tmp_path / f"{EVIL}.yaml")],
        ["init", str(tmp_path / f"{EVIL}.yaml")],
        ["run", "digits", "--set", f"data.source={tmp_path / 'data'}", "--dry-run"],
    ):
        _, out, err = kd_here(*words)
        assert out + err
        assert control_characters(out + err) == "", words
    assert out_file.exists()


def poisoned(value: Any) -> Any:
    """Return a copy of a value with escapes after every text."""
    if isinstance(value, dict):
        return {key: poisoned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [poisoned(inner) for inner in value]
    return value + EVIL if isinstance(value, str) and value not in ("FINISHED", "FAILED") else value


def test_every_table_and_line_is_escaped(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(Outcome.model_validate(poisoned(outcome.model_dump(mode="json"))), details=True)
    console.print_table([{EVIL: EVIL}], {EVIL: EVIL})
    console.print_fields({EVIL: EVIL, "in": {EVIL: [EVIL]}, "rows": [{EVIL: EVIL}]})
    console.print_text(EVIL)
    show.print_classes([ClassLine(name=EVIL, examples=2, accuracy=0.5, precision=None, f1=None)])
    gc.print_deleted(Deleted(kind="run", name=EVIL, run_id=EVIL, folder=None, last_used=EVIL, bytes=1), dry_run=True)
    screen = console.console()
    lines = [
        Line("student", EVIL, status, epochs=2, epoch=1, error=EVIL, warning=EVIL, note=EVIL)
        for status in ("training", "failed", "finished")
    ]
    plain_lines(screen)(lines)
    print_warnings(screen, lines, set())
    screen.print(progress_table(lines))
    out, err = capsys.readouterr()
    assert out.count("owned") > 30
    assert control_characters(out + err) == ""


def test_only_control_characters_are_escaped() -> None:
    assert escaped("Füße 猫 a\u00a0b") == "Füße 猫 a\u00a0b"
    assert escaped("\udcff") == r"\udcff"
    assert escaped("a\nb\tc", keep="\n\t") == "a\nb\tc"
    assert escaped("\x00\n") == r"\x00\n"
