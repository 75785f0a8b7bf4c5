"""The leaderboard as a data frame and as Markdown."""

import pytest

from kdmodels.report.leaderboard import leaderboard
from kdmodels.report.tables import COLUMNS, record, to_frame, to_markdown
from tests.support.students import CONTROL, KD, failed, student

TITLES = (
    "rank,variant,val/accuracy,±,95% low,95% high,examples low,examples high,vs control,vs control low,"
    "vs control high,vs control p,vs control holm,vs best holm,bootstrap low,bootstrap high,vs control mcnemar,"
    "vs best mcnemar,wins,group,parameters,file MB,MFLOPs,memory MB,p50 ms,pareto,status,reused,run_id"
)


def test_every_column_has_a_value_in_a_record() -> None:
    assert list(record(leaderboard([KD])[0])) == COLUMNS == TITLES.split(",")


def test_the_frame_of_no_rows_has_all_columns() -> None:
    assert list(to_frame([]).columns) == COLUMNS


def test_missing_values_are_empty_cells_of_the_csv() -> None:
    costs = {"cost/flops": 2.5e6, "size/file_mb": 0.25, "cost/memory_mb": 1.5, "latency/p50_ms": 0.125}
    rows = leaderboard([failed("broken"), student("kd", [0.5], metrics={"val/accuracy": 0.5, **costs})])
    titles, kd, broken = to_frame(rows).to_csv(index=False).splitlines()
    assert titles == TITLES
    assert kd == "1,kd,0.5" + "," * 17 + "1,100,0.25,2.5,1.5,0.125,True,FINISHED,False,run-kd"
    assert broken == ",broken" + "," * 25 + "FAILED,False,run-x"


def test_markdown_of_a_whole_leaderboard() -> None:
    lines = to_markdown(leaderboard([CONTROL, KD, failed("a|b")])).splitlines()
    assert lines[0] == "| " + " | ".join(COLUMNS) + " |"
    assert lines[2].startswith("| 1 | kd | 0.9500 | 0.0265 | 0.8843 | 1.0000 |  |  | 0.0300 | ")
    assert lines[2].endswith(" | 100 |  |  |  |  |  | FINISHED | False | run-kd |")
    assert lines[4] == r"|  | a\|b |" + "  |" * (COLUMNS.index("status") - 2) + " FAILED | False | run-x |"


def test_metrics_of_the_experiment_are_columns() -> None:
    rows = leaderboard([KD.model_copy(update={"scores": {"mymetrics:cost": [1.0, 2.0]}}), CONTROL])
    frame = to_frame(rows)
    assert list(frame.columns) == [*COLUMNS, "mymetrics:cost"]
    assert frame["mymetrics:cost"].tolist() == [1.5, pytest.approx(float("nan"), nan_ok=True)]
    assert [line.split(" | ")[-1] for line in to_markdown(rows).splitlines()] == [
        "mymetrics:cost |",
        "--- |",
        "1.5000 |",
        " |",
    ]
