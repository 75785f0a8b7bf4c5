"""The leaderboard and its winner, against figures worked out by hand and by scipy."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdmodels.report.leaderboard import COLUMNS, leaderboard, to_markdown, winner


def row(variant: str, accuracies: list[float], parameters: int = 100, seeds: list[int] | None = None) -> dict[str, Any]:
    return {
        "variant": variant,
        "control": "hard-labels",
        "run_id": f"run-{variant}",
        "status": "FINISHED",
        "reused": False,
        "seeds": list(range(len(accuracies))) if seeds is None else seeds,
        "per_seed": {"val/accuracy": accuracies},
        "metrics": {"val/accuracy": float(np.mean(accuracies))},
        "parameters": parameters,
    }


def failed(variant: str) -> dict[str, Any]:
    bare = {"seeds": [0], "per_seed": {}, "metrics": {}, "parameters": None}
    return {
        "variant": variant,
        "control": "hard-labels",
        "run_id": "run-x",
        "status": "FAILED",
        "reused": False,
        **bare,
    }


CONTROL = row("hard-labels", [0.90, 0.91, 0.95])
KD = row("kd", [0.94, 0.93, 0.98])


def line(frame: pd.DataFrame, variant: str) -> dict[str, Any]:
    return frame.set_index("variant").loc[variant].to_dict()


def test_ranks_by_mean_and_puts_failures_last_without_figures() -> None:
    frame = leaderboard([failed("broken"), CONTROL, KD])
    assert list(frame.columns) == COLUMNS
    assert list(frame["variant"]) == ["kd", "hard-labels", "broken"]
    assert list(frame["rank"].iloc[:2]) == [1, 2]
    assert frame.iloc[2][["rank", "val/accuracy", "±", "95% low", "vs control", "parameters"]].isna().all()
    assert list(frame["status"]) == ["FINISHED", "FINISHED", "FAILED"]
    assert list(frame["run_id"]) == ["run-kd", "run-hard-labels", "run-x"]


def test_figures_of_one_row() -> None:
    kd = line(leaderboard([CONTROL, KD]), "kd")
    assert kd["val/accuracy"] == pytest.approx(0.95)
    assert kd["±"] == pytest.approx(0.0264575)  # sqrt((0.01^2 + 0.02^2 + 0.03^2) / 2)
    half = 4.302653 * 0.0264575 / 3**0.5
    assert (kd["95% low"], kd["95% high"]) == pytest.approx((0.95 - half, 1.0), abs=1e-6)  # 1.016 is no share
    assert kd["parameters"] == 100


def test_difference_to_the_control_is_paired_by_seed() -> None:
    # The paired interval is narrow, as both are good at seed 2; seeds are matched by number, not by place.
    shuffled = row("kd", [0.98, 0.94, 0.93], seeds=[2, 0, 1])
    kd = line(leaderboard([CONTROL, shuffled]), "kd")
    paired = stats.ttest_rel([0.94, 0.93, 0.98], [0.90, 0.91, 0.95]).confidence_interval(0.95)
    assert kd["vs control"] == pytest.approx(0.03)
    assert (kd["vs control low"], kd["vs control high"]) == pytest.approx((paired.low, paired.high))


def test_difference_without_equal_seeds_has_no_interval() -> None:
    kd = line(leaderboard([CONTROL, row("kd", [0.94, 0.96])]), "kd")
    assert kd["vs control"] == pytest.approx(0.03)
    assert np.isnan(kd["vs control low"])
    assert np.isnan(kd["vs control high"])


def test_the_control_has_no_difference_to_itself_and_may_be_absent_or_failed() -> None:
    assert np.isnan(line(leaderboard([CONTROL, KD]), "hard-labels")["vs control"])
    assert leaderboard([KD])["vs control"].isna().all()
    assert leaderboard([KD, failed("hard-labels")])["vs control"].isna().all()


def test_one_seed_has_no_spread() -> None:
    kd = line(leaderboard([row("hard-labels", [0.9]), row("kd", [0.95])]), "kd")
    assert kd["val/accuracy"] == 0.95
    assert kd["vs control"] == pytest.approx(0.05)
    assert np.isnan([kd["±"], kd["95% low"], kd["95% high"], kd["vs control low"]]).all()


def test_no_rows_is_an_empty_table() -> None:
    assert list(leaderboard([]).columns) == COLUMNS
    assert winner([]) is None


def test_winner_ignores_failures() -> None:
    best = row("kd+hint", [0.99]) | {"status": "KILLED"}
    assert winner([CONTROL, best, KD]) is KD
    assert winner([failed("a"), best]) is None


def test_ties_go_to_fewer_parameters_then_the_control_then_the_file() -> None:
    # The same three figures in another order: their float means differ in the last bit.
    first, second = row("b", [0.1, 0.2, 0.3]), row("a", [0.3, 0.2, 0.1])
    assert first["metrics"] != second["metrics"]
    control, small = row("hard-labels", [0.2, 0.3, 0.1]), row("small", [0.2, 0.1, 0.3], parameters=99)
    assert winner([first, second, control, small]) is small
    assert winner([first, second, control]) is control
    assert winner([first, second]) is first
    assert list(leaderboard([first, second, control, small])["variant"]) == ["small", "hard-labels", "b", "a"]


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_winner_has_rank_one_and_every_row_stays(accuracies: list[list[float]]) -> None:
    rows = [row(f"v{index}", values) for index, values in enumerate(accuracies)]
    frame, best = leaderboard(rows), winner(rows)
    assert best is not None
    assert frame.loc[frame["rank"] == 1, "variant"].item() == best["variant"]
    assert sorted(frame["variant"]) == sorted(each["variant"] for each in rows)
    assert frame["val/accuracy"].is_monotonic_decreasing or frame["val/accuracy"].diff().max() < 1e-11


def test_markdown_of_a_whole_leaderboard() -> None:
    lines = to_markdown(leaderboard([CONTROL, KD, failed("a|b")])).splitlines()
    assert lines[0] == "| " + " | ".join(COLUMNS) + " |"
    assert lines[2].startswith("| 1 | kd | 0.9500 | 0.0265 | 0.8843 | 1.0000 | 0.0300 | ")
    assert lines[2].endswith(" | 100 | FINISHED | False | run-kd |")
    assert lines[4] == r"|  | a\|b |  |  |  |  |  |  |  |  | FAILED | False | run-x |"
