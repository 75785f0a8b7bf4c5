"""The `kd` command as users run it: a process of its own, in a folder and a store of its own."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

KD = Path(sys.executable).with_name("kd")
HEAVY = ("torch", "mlflow", "prefect", "pandas", "sklearn", "pydantic")
EXPERIMENT = """
name: small
threads: 1
data: {source: digits, validation: 0.2}
teacher: {network: {mlp: [32]}, epochs: 3}
student: {network: {mlp: [8]}, epochs: 2, seeds: 2}
variants: [hard-labels, kd]
"""
Kd = Callable[..., "subprocess.CompletedProcess[str]"]


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
    def kd(*words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [str(KD), *words]
        return subprocess.run(
            command, cwd=folder, env=environment | more, capture_output=True, text=True, timeout=180, check=False
        )

    return kd


@pytest.fixture(scope="module")
def first(kd: Kd) -> "subprocess.CompletedProcess[str]":
    return kd("run", "small.yaml")


@pytest.fixture(scope="module")
def again(kd: Kd, first: "subprocess.CompletedProcess[str]") -> "subprocess.CompletedProcess[str]":
    return kd("run", "small.yaml", "--json", "--require-promotion")


def statuses(folder: Path) -> dict[str, list[str]]:
    """Of all runs in the store by name, newest first, read behind MLflow's back."""
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as connection:
        rows = connection.execute("SELECT name, status FROM runs ORDER BY start_time DESC").fetchall()
    found: dict[str, list[str]] = {}
    for name, status in rows:
        found.setdefault(name, []).append(status)
    return found


def test_a_run_prints_the_leaderboard_the_verdict_and_where_to_look_next(
    first: "subprocess.CompletedProcess[str]",
) -> None:
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].split() == [
        "#",
        "variant",
        "validation",
        "95",
        "%",
        "interval",
        "vs",
        "control",
        "parameters",
        "status",
    ]
    assert sorted(line.split()[1] for line in lines[1:3]) == ["hard-labels", "kd"]
    assert all(line.split()[-2:] == ["610", "trained"] for line in lines[1:3])
    assert "becomes the first champion" in first.stdout
    assert "models:/small-student/1" in first.stdout
    for hint in ("kd ui", "kd compare", "kd predict small-student"):
        assert hint in first.stdout
    assert "\x1b" not in first.stdout + first.stderr


def test_off_a_terminal_each_step_is_a_plain_line_on_stderr(first: "subprocess.CompletedProcess[str]") -> None:
    lines = first.stderr.splitlines()
    assert lines[0] == "small: 2 variants, 2 seeds each; starting"
    for name in ("teacher", "hard-labels", "kd"):
        assert any(line.startswith(f"{name}: finished in ") for line in lines), first.stderr
    assert not [line for line in lines if "Warning" in line or "Traceback" in line or "INFO" in line]


def test_the_second_run_reuses_everything_and_its_json_is_all_of_stdout(
    again: "subprocess.CompletedProcess[str]",
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
        assert {"val/accuracy", "val/accuracy/std"} <= student["metrics"].keys()
        assert student["run_id"]
    verdict = document["verdict"]
    assert (verdict["promoted"], verdict["model"], verdict["version"]) == (False, "small-student", 1)
    assert verdict["reason"].startswith("already champion")
    stages = ["total", "start", "data", "teacher", "knowledge", "students", "compare", "promote"]
    assert list(document["seconds"]) == stages
    assert document["seconds"]["total"] >= document["seconds"]["start"] > 0
    assert "kd: reused" in again.stderr


def test_dry_run_says_why_and_records_nothing(kd: Kd, folder: Path, again: "subprocess.CompletedProcess[str]") -> None:
    before = statuses(folder)
    told = kd("run", "small.yaml", "--set", "student.epochs=3", "--dry-run")
    assert told.returncode == 0, told.stderr
    rows = {line.split()[0]: line for line in told.stdout.splitlines()}
    assert rows["teacher"].split()[1] == "reuse"
    assert rows["kd"].split()[1] == "train"
    assert "epochs: 2 -> 3" in rows["kd"]
    assert statuses(folder) == before


def test_a_failed_student_is_exit_code_3_and_the_others_are_kept(
    kd: Kd, folder: Path, again: "subprocess.CompletedProcess[str]"
) -> None:
    (folder / "broken.yaml").write_text(
        EXPERIMENT.replace("small", "broken").replace("[hard-labels, kd]", "[{name: b, terms: [{hard_labels: 1e38}]}]")
    )
    ran = kd("run", "broken.yaml", "--json", "--quiet", "--require-promotion")
    assert ran.returncode == 3, ran.stderr
    document = json.loads(ran.stdout)
    assert {student["variant"]: student["status"] for student in document["students"]} == {
        "hard-labels": "FINISHED",
        "b": "FAILED",
    }
    assert "diverged" in document["students"][1]["error"]
    assert ran.stderr == ""


def test_no_finished_student_is_exit_code_1_and_one_line(kd: Kd) -> None:
    ran = kd("run", "small.yaml", "--set", "student.optimizer={sgd: {lr: 1e38}}", "--json")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "kd: error: no student finished: hard-labels: " in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_gate_s_refusal_is_exit_code_4_only_where_promotion_was_asked_for(
    kd: Kd, again: "subprocess.CompletedProcess[str]"
) -> None:
    refused = ("run", "small.yaml", "--set", "promote.require.accuracy='>= 0.99'", "--set", "promote.model=other", "-q")
    assert kd(*refused).returncode == 0
    asked = kd(*refused, "--require-promotion")
    assert asked.returncode == 4
    assert "kd: error" not in asked.stderr


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_an_interrupted_run_exits_130_and_every_run_in_it_is_killed(
    training: Callable[[str], "subprocess.Popen[str]"],
    folder: Path,
    again: "subprocess.CompletedProcess[str]",
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


MISTAKES: list[tuple[list[str], int, str]] = [
    (["frob"], 2, "No such command 'frob'"),
    ([], 2, "Missing command"),
    (["run"], 2, "which experiment? allowed: digits, mnist"),
    (["run", "digit"], 2, "did you mean 'digits'? allowed: digits, mnist"),
    (["run", "."], 2, ".: is a folder, not an experiment file"),
    (["run", "digits", "--frehs"], 2, "No such option: --frehs"),
    (["run", "digits", "--variants", "kd+hnt"], 2, "--variants: 'kd+hnt' is not a variant of digits; did you mean"),
    (["run", "digits", "--set", "student.epoch=3"], 2, "did you mean 'epochs'?"),
    (["run", "digits", "--set", "student.epochs=many"], 2, "--set student.epochs"),
    (["run", "digits", "--set", "nothing"], 2, "allowed: key=value"),
    (["run", "digits", "--data-dir", "nowhere"], 2, "nowhere"),
    (["run", "wrong.yaml"], 2, "wrong.yaml:3: "),
    (["run", "empty.yaml"], 2, "empty.yaml: is empty"),
    (["init", "small.yaml"], 2, "small.yaml: exists already"),
    (["init", "no/such/folder.yaml"], 2, "no/such/folder.yaml: No such file or directory"),
    (["schedule"], 2, "allowed is one of: an experiment or a file, --list, --delete NAME"),
    (["schedule", "small.yaml", "--every", "0"], 2, "--every"),
    (["compare", "--csv", "--json"], 2, "allowed is one of them"),
    (["predict", "small-student", "no.png"], 2, "no.png"),
    (["ui", "--port", "99999"], 2, "99999"),
]


@pytest.mark.parametrize(
    ("words", "code", "told"), MISTAKES, ids=lambda value: " ".join(value) if value and isinstance(value, list) else ""
)
def test_a_mistake_is_one_clear_line(kd: Kd, folder: Path, words: list[str], code: int, told: str) -> None:
    (folder / "wrong.yaml").write_text("name: wrong\ndata: digits\nteachr: {}\n")
    (folder / "empty.yaml").write_text("")
    before = sorted(folder.iterdir())
    failed = kd(*words)
    assert failed.returncode == code
    assert failed.stdout == ""
    lines = failed.stderr.splitlines()
    assert told in failed.stderr
    assert all(line.startswith("kd: error: ") for line in lines), failed.stderr
    assert len(lines) == 1 or words == ["run", "wrong.yaml"]  # a file's mistakes are a line each
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "more", "code", "told"),
    [
        (["show", "hard-label"], {}, 2, "run 'hard-label' is not in the tracking store; did you mean 'hard-labels'?"),
        (["rollback", "small-studnt"], {}, 2, "did you mean 'small-student'?"),
        (["run", "mnist", "--data-dir", "."], {}, 1, "no readable MNIST there"),
        (["list"], {"MLFLOW_TRACKING_URI": "sqlite:////proc/nothing/mlflow.db"}, 1, "/proc/nothing/mlflow.db"),
        (["run", "small.yaml"], {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, 1, "no Prefect server answers at"),
    ],
)
def test_a_mistake_that_only_the_stores_show_is_one_clear_line_too(
    kd: Kd, again: "subprocess.CompletedProcess[str]", words: list[str], more: dict[str, str], code: int, told: str
) -> None:
    failed = kd(*words, *(["--quiet"] if words[0] == "run" else []), **more)
    assert failed.returncode == code
    assert failed.stdout == ""
    (line,) = failed.stderr.splitlines()
    assert line.startswith("kd: error: ")
    assert told in line


def test_debug_shows_where_a_mistake_was_found(kd: Kd) -> None:
    for failed in (kd("--debug", "run", "digit"), kd("run", "digit", KD_DEBUG="1")):
        assert failed.returncode == 2
        assert "Traceback" in failed.stderr
        assert failed.stderr.splitlines()[-1].startswith("kd: error: digit: ")


def test_help_and_a_bad_experiment_import_nothing_heavy() -> None:
    script = (
        "import sys; from flows import cli; sys.argv = ['kd', *{words}]\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    for words, heavy in ((["--help"], HEAVY), (["run", "--help"], HEAVY), (["run", "digit"], HEAVY[:-1])):
        command = [sys.executable, "-c", script.format(words=words, heavy=heavy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr.splitlines()[-1] == "[]", words


def complete(folder: Path, environment: dict[str, str], line: str) -> list[str]:
    words = line.split(" ")
    asked = {"_KD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([KD], cwd=folder, env=environment | asked, capture_output=True, text=True, timeout=60)
    return done.stdout.split()


def test_the_shell_completes_experiments_and_variants(folder: Path, environment: dict[str, str]) -> None:
    assert complete(folder, environment, "kd run m") == ["mnist"]
    assert complete(folder, environment, "kd run small.yaml --variants k") == ["kd"]
    assert complete(folder, environment, "kd run small.yaml --variants kd,h") == ["kd,hard-labels"]
    assert complete(folder, environment, "kd run nothing --variants k") == []


def test_a_reader_that_has_enough_is_no_error(kd: Kd, folder: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [KD, "variants", "--json"], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""


def test_init_writes_a_file_that_can_be_run(kd: Kd, folder: Path) -> None:
    assert kd("init", "mine.yaml").returncode == 0
    assert "variants:" in (folder / "mine.yaml").read_text()
    assert kd("run", "mine.yaml", "--variants", "nothing").stderr.startswith("kd: error: --variants: 'nothing'")
    assert not (folder / "mine.yaml.partial").exists()


def test_variants_lists_the_catalogue(kd: Kd) -> None:
    rows: list[dict[str, Any]] = json.loads(kd("variants", "--json").stdout)
    named = {row["name"]: row for row in rows}
    assert named["kd"]["terms"] == ["0.1 hard_labels", "0.9 soft_targets, temperature 4"]
    assert named["kd"]["paper"].startswith("Hinton")
    assert all(name in kd("variants").stdout for name in named)


def test_the_ledger_is_read_by_list_show_and_compare(kd: Kd, again: "subprocess.CompletedProcess[str]") -> None:
    parent = json.loads(again.stdout)["parent_run_id"]
    listed = json.loads(kd("list", "--json", "--limit", "100").stdout)
    assert parent in [run["run_id"] for run in listed]
    assert json.loads(kd("show", parent[:10], "--json").stdout)["run_id"] == parent
    compared = json.loads(kd("compare", parent, "--json").stdout)
    assert sorted(row["variant"] for row in compared) == ["hard-labels", "kd"]
    assert kd("compare", parent, "--csv").stdout.startswith("rank,variant,val/accuracy,")
    assert kd("compare", parent, "--markdown").stdout.startswith("| rank | variant |")
    assert "reused" in kd("compare", parent).stdout


def test_promote_and_rollback_say_what_they_did(kd: Kd, again: "subprocess.CompletedProcess[str]") -> None:
    promoted = kd("promote", json.loads(again.stdout)["parent_run_id"], "--json")
    assert promoted.returncode == 0, promoted.stderr
    assert json.loads(promoted.stdout)["reason"].startswith("already champion")
    back = kd("rollback", "small-student")
    assert back.returncode == 2
    assert back.stderr == "kd: error: model 'small-student' has no previous champion to go back to\n"
