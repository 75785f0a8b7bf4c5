from pathlib import Path

import numpy as np
import pytest

from kdmodels.errors import UserError
from kdmodels.evaluation.significance import Correctness
from tasks import results, tracking


def test_the_latest_comparison_is_the_newest_with_a_leaderboard(store: Path) -> None:
    with pytest.raises(UserError, match="nothing has been compared yet; begin with: kd run digits"):
        results.latest_comparison()
    compared = tracking.start("digits", "first", "comparison")
    tracking.log_json(compared, results.ROWS, [])
    tracking.start("digits", "second", "comparison")
    assert results.latest_comparison().run_id == compared


def test_correctness_is_read_as_it_was_written(tmp_path: Path) -> None:
    outcomes = np.array([[True, False, True], [False, False, True]])
    results.write_correctness(tmp_path / "a", {"run": Correctness("split", outcomes)})
    stored = results.read_correctness(tmp_path / "a")["run"]
    assert stored.split == "split"
    np.testing.assert_array_equal(stored.outcomes, outcomes)


def test_a_student_has_its_own_correctness_and_an_old_run_none(store: Path, tmp_path: Path) -> None:
    student, old = (tracking.start("digits", name, "student") for name in ("kd", "old"))
    folder = tmp_path / "folder"
    folder.mkdir()
    own = {results.OWN: Correctness("split", np.ones((1, 2), dtype=bool))}
    results.write_correctness(folder / results.CORRECTNESS, own)
    tracking.log_folder(student, folder, results.REPLICAS)
    assert results.correctness(tracking.get(student)).keys() == {student}
    assert results.correctness(tracking.get(old)) == {}


def test_a_row_of_the_leaderboard_has_no_figures_on_test(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student", tags={"kd.variant": "kd", "kd.seeds": "[3]"})
    tracking.log_json(run_id, results.TABLE, [{"seed": 3, "epoch": 2, "figures": {results.ACCURACY: 0.5}}])
    tracking.log_metrics(run_id, [("val/accuracy", 0.5, 1), ("test/accuracy", 0.6, 1), ("size/parameters", 7, 0)])
    row = results.reference(run_id, reused=True)
    assert (row.variant, row.control, row.status, row.seeds) == ("kd", "hard-labels", "RUNNING", [3])
    assert (row.parameters, row.per_seed) == (7, {"val/accuracy": [0.5]})
    assert row.metrics == {"val/accuracy": 0.5, "size/parameters": 7.0}
