"""`kd run`: what it prints, and its exit codes."""

import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMALL, Here
from tests.kd.conftest import Done, Kd


def statuses(folder: Path) -> list[tuple[str, str]]:
    """Return the name and status of each run in the store, without MLflow."""
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as connection:
        return connection.execute("SELECT name, status FROM runs").fetchall()


def test_a_run_prints_the_verdict_the_conclusion_the_leaderboard_and_the_next_commands(first_run: Done) -> None:
    assert first_run.returncode == 0, first_run.stderr
    lines = first_run.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["verdict", "champion", "test", "result"]
    assert "becomes the first champion" in lines[0]
    assert lines[1].split()[1] == "models:/small-student/1"
    assert " ".join(lines[5].split()) == "# variant validation % vs control (95 %) p (Holm)"
    assert sorted(line.split()[1] for line in lines[6:8]) == ["hard-labels", "kd"]
    labels = [line.split()[0] for line in lines[8:] if not line.startswith("note")]
    assert labels == ["tuning", "students", "teacher", "seconds", "next"]
    assert lines[8] == "tuning    untuned"
    assert lines[9].startswith("students  610 parameters, ")
    assert lines[-1] == "next      kd report --open, kd compare --details, kd ui, kd predict small-student IMAGE..."
    assert "\x1b" not in first_run.stdout + first_run.stderr


def test_without_a_terminal_each_step_is_a_plain_line_on_stderr(first_run: Done) -> None:
    lines = first_run.stderr.splitlines()
    assert lines[0] == "small: 2 variants, 2 seeds each; starting"
    for name in ("teacher", "hard-labels", "kd"):
        assert any(line.startswith(f"{name}: finished in ") for line in lines), first_run.stderr
    assert not [line for line in lines if "Warning" in line or "Traceback" in line or "INFO" in line]


def test_the_second_run_reuses_everything_and_prints_nothing_but_json_on_stdout(second_run: Done) -> None:
    assert second_run.returncode == 0, second_run.stderr  # a winner that is the champion already is not refused
    document = json.loads(second_run.stdout)
    assert document["experiment"] == "small"
    assert document["teacher"]["reused"]
    assert document["teacher"]["metrics"]["val/accuracy"] > 0.3
    assert [student["variant"] for student in document["students"]] == ["hard-labels", "kd"]
    for student in document["students"]:
        assert student["status"] == "FINISHED"
        assert student["reused"]
        assert student["seeds"] == [0, 1]
        assert student["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
        assert {"val/accuracy", "val/accuracy/std", "cost/flops"} <= student["metrics"].keys()
        assert student["run_id"]
    verdict = document["verdict"]
    assert (verdict["promoted"], verdict["model"], verdict["version"]) == (False, "small-student", 1)
    assert verdict["reason"].startswith("already champion")
    stages = ["total", "start", "data", "teacher", "knowledge", "students", "compare", "promote", "report"]
    assert list(document["seconds"]) == stages
    assert document["seconds"]["total"] >= document["seconds"]["start"] > 0
    assert "kd: reused" in second_run.stderr


def test_a_dry_run_prints_the_reasons_and_records_nothing(here: Here, folder: Path) -> None:
    before = statuses(folder)
    code, out, error = here("run", "small.yaml", "--set", "student.epochs=4", "--dry-run")
    assert code == 0, error
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert rows["teacher"].split()[1] == "reuse"
    assert rows["kd"].split()[1] == "train"
    assert "epochs: 3 -> 4" in rows["kd"]
    steps = json.loads(here("run", "small.yaml", "--variants", "hard-labels", "--dry-run", "--json")[1])["students"]
    assert [(step["name"], step["action"]) for step in steps] == [("hard-labels", "reuse")]
    assert statuses(folder) == before


def test_a_failed_student_gives_exit_code_3_and_the_other_students_are_kept(here: Here, folder: Path) -> None:
    broken = SMALL | {"name": "broken", "variants": [{"name": "b", "terms": [{"hard_labels": 3e38}]}]}
    (folder / "broken.yaml").write_text(yaml.safe_dump(broken))
    code, out, error = here("run", "broken.yaml", "--json", "--quiet", "--require-promotion")
    assert code == 3, error
    students = json.loads(out)["students"]
    assert {student["variant"]: student["status"] for student in students} == {"hard-labels": "FINISHED", "b": "FAILED"}
    assert "diverged" in students[1]["error"]


def test_a_run_without_any_finished_student_gives_exit_code_1_and_one_line(here: Here) -> None:
    code, out, error = here("run", "small.yaml", "--set", "student.optimizer={sgd: {lr: 1e38}}", "--json", "--quiet")
    assert code == 1
    assert out == ""
    assert error.splitlines()[-1].startswith("kd: error: no student finished: hard-labels: ")


def test_a_refusal_gives_exit_code_4_only_if_a_promotion_was_requested(here: Here) -> None:
    rule = "promote.require.accuracy='>= 0.99'"
    refused = ("run", "small.yaml", "--set", "name=refused", "--set", "promote.model=other", "--set", rule, "-q")
    assert here(*refused)[0] == 0
    code, out, error = here(*refused, "--require-promotion")
    assert code == 4
    assert "is refused: test accuracy's lower 95% bound is" in out
    assert "kd: error" not in error
    assert here("promote")[0] == 4


@pytest.mark.parametrize(
    "words", [("run", "few.yaml", "--dry-run"), ("run", "few.yaml", "-q"), ("teacher", "few.yaml")]
)
def test_a_number_that_does_not_fit_the_data_is_reported_with_its_line(
    here: Here, folder: Path, words: tuple[str, ...]
) -> None:
    (folder / "few.yaml").write_text(yaml.safe_dump(SMALL | {"data": {"source": "digits", "labelled": 99_999}}))
    code, out, error = here(*words)
    assert (code, out) == (2, "")
    line = (folder / "few.yaml").read_text().splitlines().index("  labelled: 99999") + 1
    expected = f"kd: error: few.yaml:{line}: data.labelled: 99999 is out of range. Allowed: 10 to 1284"
    assert error.splitlines()[-1] == expected


def test_a_flow_that_fails_prints_one_line_and_no_traceback(kd: Kd) -> None:
    failed = kd("run", "mnist", "--data-dir", ".", "--quiet")
    assert (failed.returncode, failed.stdout) == (1, "")
    (line,) = failed.stderr.splitlines()
    assert line.startswith("kd: error: data.source: mnist: ")
    assert "no readable MNIST in this folder" in line


def test_a_server_that_does_not_answer_gives_exit_code_1(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, out, error = here("run", "small.yaml", "--quiet")
    assert (code, out) == (1, "")
    assert error.startswith("kd: error: no Prefect server answers at http://127.0.0.1:9/api")
