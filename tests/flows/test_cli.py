"""The `kd` command as users run it: a process of its own, in a folder and a store of its own."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.flows.conftest import Here

KD = Path(sys.executable).with_name("kd")
EXPERIMENT = """
name: small
threads: 1
data: {source: digits, validation: 0.2}
teacher: {network: {mlp: [32]}, epochs: 3}
student: {network: {mlp: [8]}, epochs: 2, seeds: 2}
variants: [hard-labels, kd]
"""
Done = subprocess.CompletedProcess[str]
Kd = Callable[..., Done]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.yaml").write_text(EXPERIMENT)
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path, prefect_server: str) -> dict[str, str]:
    own = ("MLFLOW_", "KD_", "PREFECT_LOGGING", "FORCE_COLOR", "NO_COLOR", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | {"PREFECT_API_URL": prefect_server}


@pytest.fixture(scope="module")
def kd(folder: Path, environment: dict[str, str]) -> Kd:
    def kd(*words: str, **more: str) -> Done:
        command = [str(KD), *words]
        return subprocess.run(
            command, cwd=folder, env=environment | more, capture_output=True, text=True, timeout=180, check=False
        )

    return kd


@pytest.fixture(scope="module")
def first(kd: Kd) -> Done:
    return kd("run", "small.yaml")


@pytest.fixture(scope="module")
def again(kd: Kd, first: Done) -> Done:
    return kd("run", "small.yaml", "--json", "--require-promotion")


@pytest.fixture
def here(folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, kd_here: Here) -> Here:
    """`kd` in this process, on the same store."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlruns/mlflow.db")
    for name in ("KD_DEBUG", "PYTHONWARNINGS", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"):
        monkeypatch.setenv(name, environment.get(name, ""))
    return kd_here


def statuses(folder: Path) -> dict[str, list[str]]:
    """Of all runs in the store by name, newest first, read behind MLflow's back."""
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as connection:
        rows = connection.execute("SELECT name, status FROM runs ORDER BY start_time DESC").fetchall()
    found: dict[str, list[str]] = {}
    for name, status in rows:
        found.setdefault(name, []).append(status)
    return found


def test_a_run_prints_the_leaderboard_the_verdict_and_where_to_look_next(
    first: Done,
) -> None:
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert " ".join(lines[0].split()) == "# variant validation 95 % interval vs control p (Holm) status"
    assert sorted(line.split()[1] for line in lines[1:3]) == ["hard-labels", "kd"]
    assert all(line.split()[-1] == "trained" for line in lines[1:3])
    assert lines[4].split()[:2] == ["over", "examples"]
    assert sum(int(line.split()[-2]) for line in lines[5:7]) in (99, 100, 101)  # rounded shares
    assert lines[9].startswith("indistinguishable from ")
    assert lines[10].startswith("each: 610 parameters, ")
    assert lines[11].startswith("teacher: ")
    assert "becomes the first champion" in first.stdout
    assert "models:/small-student/1" in first.stdout
    for hint in ("kd ui", "kd compare", "kd predict small-student"):
        assert hint in first.stdout
    assert "\x1b" not in first.stdout + first.stderr


def test_off_a_terminal_each_step_is_a_plain_line_on_stderr(first: Done) -> None:
    lines = first.stderr.splitlines()
    assert lines[0] == "small: 2 variants, 2 seeds each; starting"
    for name in ("teacher", "hard-labels", "kd"):
        assert any(line.startswith(f"{name}: finished in ") for line in lines), first.stderr
    assert not [line for line in lines if "Warning" in line or "Traceback" in line or "INFO" in line]


def test_the_second_run_reuses_everything_and_its_json_is_all_of_stdout(
    again: Done,
) -> None:
    assert again.returncode == 0, again.stderr  # the champion again is not refused
    document = json.loads(again.stdout)
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
    stages = ["total", "start", "data", "teacher", "knowledge", "students", "compare", "promote"]
    assert list(document["seconds"]) == stages
    assert document["seconds"]["total"] >= document["seconds"]["start"] > 0
    assert "kd: reused" in again.stderr


def test_dry_run_says_why_and_records_nothing(here: Here, folder: Path, again: Done) -> None:
    before = statuses(folder)
    code, out, told = here("run", "small.yaml", "--set", "student.epochs=3", "--dry-run")
    assert code == 0, told
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert rows["teacher"].split()[1] == "reuse"
    assert rows["kd"].split()[1] == "train"
    assert "epochs: 2 -> 3" in rows["kd"]
    steps = json.loads(here("run", "small.yaml", "--variants", "hard-labels", "--dry-run", "--json")[1])["students"]
    assert [(step["name"], step["action"]) for step in steps] == [("hard-labels", "reuse")]
    assert statuses(folder) == before


def test_a_failed_student_is_exit_code_3_and_the_others_are_kept(here: Here, folder: Path, again: Done) -> None:
    (folder / "broken.yaml").write_text(
        EXPERIMENT.replace("small", "broken").replace("[hard-labels, kd]", "[{name: b, terms: [{hard_labels: 3e38}]}]")
    )
    code, out, told = here("run", "broken.yaml", "--json", "--quiet", "--require-promotion")
    assert code == 3, told
    document = json.loads(out)
    assert {student["variant"]: student["status"] for student in document["students"]} == {
        "hard-labels": "FINISHED",
        "b": "FAILED",
    }
    assert "diverged" in document["students"][1]["error"]


def test_no_finished_student_is_exit_code_1_and_one_line(here: Here, again: Done) -> None:
    code, out, told = here("run", "small.yaml", "--set", "student.optimizer={sgd: {lr: 1e38}}", "--json", "--quiet")
    assert code == 1
    assert out == ""
    assert told.splitlines()[-1].startswith("kd: error: no student finished: hard-labels: ")


def test_the_gate_s_refusal_is_exit_code_4_only_where_promotion_was_asked_for(here: Here, again: Done) -> None:
    rule = "promote.require.accuracy='>= 0.99'"
    refused = ("run", "small.yaml", "--set", "name=refused", "--set", "promote.model=other", "--set", rule, "-q")
    assert here(*refused)[0] == 0
    code, out, told = here(*refused, "--require-promotion")
    assert code == 4
    assert "is refused: test accuracy's lower 95% bound is" in out
    assert "kd: error" not in told
    assert here("promote")[0] == 4


@pytest.fixture
def training(folder: Path, environment: dict[str, str]) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """A run that has begun to train its first student, for very long."""
    started: list[subprocess.Popen[str]] = []

    def training(kind: str) -> "subprocess.Popen[str]":
        command = [KD, "run", "small.yaml", "--set", "student.epochs=100000", "--set", f"runner.kind={kind}", "--fresh"]
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr
        told = [next(process.stderr)]
        while "hard-labels: training" not in told[-1]:
            line = process.stderr.readline()
            assert line, f"it ended: {told}"
            told.append(line)
        return process

    yield training
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("thread", signal.SIGINT),
        ("process", signal.SIGINT),
        ("process", signal.SIGTERM),
        ("thread", signal.SIGTERM),
    ],
)
@pytest.mark.fault
def test_an_interrupted_run_exits_130_and_every_run_in_it_is_killed(
    training: Callable[[str], "subprocess.Popen[str]"],
    folder: Path,
    again: Done,
    kind: str,
    number: signal.Signals,
) -> None:
    process = training(kind)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "kd: interrupted"
    now = statuses(folder)
    assert now["small"][0] == now["hard-labels"][0] == "KILLED"
    assert "RUNNING" not in {status for of_a_name in now.values() for status in of_a_name}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["show", "hard-label"], 2, "run 'hard-label' is not in the tracking store; did you mean 'hard-labels'?"),
        (["compare", "small", "nothing"], 2, "run 'nothing' is not in the tracking store"),
        (["promote", "nothing"], 2, "run 'nothing' is not in the tracking store"),
        (["rollback", "small-studnt"], 2, "did you mean 'small-student'?"),
        (["rollback", "small-student"], 2, "model 'small-student' has no previous champion to go back to"),
        (
            ["predict", "small-student@best", "small.yaml"],
            2,
            "model 'small-student' has no alias 'best'; it has: champion",
        ),
        (["predict", "small-student", "small.yaml"], 1, "small.yaml"),
        (["schedule", "small.yaml", "--cron", "* * *"], 2, "--cron '* * *' is not one"),
        (["schedule", "--delete", "nothing"], 2, "no schedule 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_that_only_the_stores_show_is_one_clear_line_too(
    here: Here, again: Done, words: list[str], code: int, told: str
) -> None:
    found, out, stderr = here(*words)
    assert (found, out) == (code, ""), stderr
    line = stderr.splitlines()[-1]
    assert line.startswith("kd: error: ")
    assert told in line
    assert "Traceback" not in stderr


def test_a_store_that_can_t_be_written_is_exit_code_1(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nothing/mlflow.db")
    code, out, told = here("list")
    assert (code, out) == (1, "")
    assert told.startswith("kd: error: tracking store '/proc/nothing/mlflow.db' can't be used: ")


@pytest.mark.parametrize("words", [["promote"], ["export", "small-student", "--pt2"], ["rollback", "small-student"]])
def test_a_store_that_can_t_be_written_is_exit_code_1_whatever_is_looked_up_in_it(
    here: Here, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nothing/mlflow.db")
    assert here(*words)[0] == 1


def test_a_flow_that_fails_is_one_line_and_no_traceback(kd: Kd) -> None:
    failed = kd("run", "mnist", "--data-dir", ".", "--quiet")
    assert (failed.returncode, failed.stdout) == (1, "")
    (line,) = failed.stderr.splitlines()
    assert line.startswith("kd: error: mnist: ")
    assert "no readable MNIST there" in line


def test_a_server_that_does_not_answer_is_exit_code_1(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, out, told = here("run", "small.yaml", "--quiet")
    assert (code, out) == (1, "")
    assert told.startswith("kd: error: no Prefect server answers at http://127.0.0.1:9/api")
    assert here("schedule", "--list")[0] == 1


def test_the_ledger_is_read_by_list_show_and_compare(here: Here, again: Done) -> None:
    parent = json.loads(again.stdout)["parent_run_id"]
    assert parent in [run["run_id"] for run in json.loads(here("list", "--json", "--limit", "100")[1])]
    listed = here("list", "--limit", "100")[1]
    assert parent[:8] in listed
    assert parent not in listed
    assert json.loads(here("show", parent[:10], "--json")[1])["run_id"] == parent
    assert "small-student" in here("show", parent)[1]
    compared = json.loads(here("compare", parent, "--json")[1])
    assert sorted(row["variant"] for row in compared) == ["hard-labels", "kd"]
    assert True in [row["pareto"] for row in compared]
    assert [row["variant"] for row in compared if row["vs control"] is None] == ["hard-labels"]
    assert here("compare", parent, "--csv")[1].startswith("rank,variant,val/accuracy,")
    assert here("compare", parent, "--markdown")[1].startswith("| rank | variant |")
    assert "reused" in here("compare", parent)[1]
    experiments = {row["name"]: row for row in json.loads(here("list", "--experiments", "--json")[1])}
    assert experiments["small"]["champion"] == "small-student/1"
    assert experiments["digits"]["shipped"]


def test_promoting_the_champion_again_is_no_refusal(here: Here, again: Done) -> None:
    code, out, _ = here("promote", json.loads(again.stdout)["parent_run_id"], "--json")
    assert code == 0
    assert json.loads(out)["reason"].startswith("already champion")


def test_a_model_is_exported_once(here: Here, folder: Path, again: Done) -> None:
    code, out, told = here("export", "small-student", "--pt2")
    assert code == 0, told
    assert out.splitlines()[0].startswith("wrote small-student-1.pt2, ")
    assert "same class for 100.00 %" in out
    code, out, told = here("export", "small-student", "--pt2")
    assert (code, out) == (2, "")
    assert told == "kd: error: small-student-1.pt2: exists already; allowed: a new file\n"
    (trained,) = [row["run_id"] for row in json.loads(again.stdout)["students"] if row["variant"] == "kd"]
    code, out, told = here("export", trained, "--pt2", "-o", "kd.pt2", "--json")
    assert code == 0, told
    report = json.loads(out)
    assert (report["format"], report["file"], report["agreement"]) == ("pt2", "kd.pt2", 1.0)
    assert here("export", "small-studnt", "--onnx")[0] == 2


def test_gc_says_what_goes_and_deletes_nothing_that_is_needed(here: Here, again: Done) -> None:
    runs = json.loads(here("list", "--json")[1])
    code, out, _ = here("gc", "--older-than", "0h", "--dry-run", "--json")
    told = json.loads(out)
    assert list(told) == ["dry_run", "deleted", "bytes", "needed", "for_good"]
    assert {tuple(each) for each in told["deleted"]} == {("kind", "name", "run_id", "folder", "bytes", "last_used")}
    assert {each["kind"] for each in told["deleted"]} >= {"decoded data", "knowledge"}
    assert (code, told["bytes"]) == (0, sum(each["bytes"] for each in told["deleted"]))
    assert here("gc", "--older-than", "4w")[1].splitlines()[-1] == "deleted 0 in all, 0 B"
    lines = here("gc", "--older-than", "0h", "--dry-run")[1].splitlines()
    assert [line.startswith("would delete ") for line in lines] == [True] * (len(told["deleted"]) + 1) + [False]
    assert lines[-1].startswith(f"{told['needed']} older runs stay, since")
    assert json.loads(here("list", "--json")[1]) == runs


@pytest.mark.parametrize("age", ["30", "-5d", "1.5d", "5m", "", "999999d", "d"])
def test_an_age_that_is_none_is_a_mistake(here: Here, age: str) -> None:
    code, out, told = here("gc", "--older-than", age)
    assert (code, out) == (2, "")
    assert told.startswith(f"kd: error: --older-than '{age}': is no age; allowed: 0 to 99999 hours, days or weeks, as")


def test_gc_without_an_age_is_a_mistake(here: Here) -> None:
    code, _, told = here("gc")
    assert code == 2
    assert "--older-than" in told


def test_doctor_tells_of_every_part(here: Here, again: Done) -> None:
    code, out, _ = here("doctor", "--json")
    found = {row["name"]: row["ok"] for row in json.loads(out)}
    assert found["libraries"]
    assert found["tracking store"]
    assert code == (1 if False in found.values() else 0)
    assert all(name in here("doctor")[1] for name in found)


def test_a_schedule_is_made_listed_and_deleted(here: Here, again: Done) -> None:
    code, out, _ = here("schedule", "small.yaml", "--every", "3600")
    assert code == 0
    assert out.splitlines()[-1].split() == ["small", "3600", "yes"]
    assert here("schedule", "--list")[1] == out
    assert here("schedule", "--delete", "small") == (0, "", "deleted the schedule of small\n")
    assert "small" not in here("schedule", "--list")[1]
