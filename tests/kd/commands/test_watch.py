"""`kd watch` without a running comparison. tests/faults/test_watch.py follows real runs in other processes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import tracking
from tasks.results import VERDICT
from tests.conftest import Here, Recorded


def test_a_comparison_that_has_ended_is_reported_at_once(recorded: Recorded, kd_here: Here) -> None:
    code, stdout, stderr = kd_here("watch", recorded.first)
    assert code == 0
    assert f"verdict   {tracking.read_json(recorded.first, VERDICT)['reason']}\n" in stdout
    assert f"kd report {recorded.first[:8]} --open" in stdout
    assert [line.split(":")[0] for line in stderr.splitlines()] == ["small", "teacher", "hard-labels", "kd"]
    assert stderr.startswith("small: report, ")


def test_a_student_stands_for_its_comparison(recorded: Recorded, kd_here: Here) -> None:
    student = tracking.children(recorded.first)[-1]
    assert kd_here("watch", student.run_id)[1] == kd_here("watch", recorded.first)[1]


def test_failed_students_give_the_exit_code_of_kd_run(recorded: Recorded, kd_here: Here) -> None:
    code, stdout, _ = kd_here("watch", recorded.other)
    assert code == 3
    assert "\nfailed    broken: " in stdout


def test_without_a_running_comparison_one_sentence_says_so(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kd_here: Here
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    assert kd_here("watch") == (
        1,
        "",
        "kd: error: no comparison and no generation is running; `kd list` shows earlier runs\n",
    )


def test_an_unknown_run_is_a_mistake(recorded: Recorded, kd_here: Here) -> None:
    code, _, stderr = kd_here("watch", "nothing")
    assert code == 2
    assert "run 'nothing' is not in the tracking store" in stderr
