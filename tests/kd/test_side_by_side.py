"""Two comparisons as `kd compare` prints them."""

import pytest

from kd.console import local_time
from kd.side_by_side import print_side_by_side
from tasks.side_by_side import FieldDifference, Side, SideBySide, StudentPair

A = Side(
    run_id="0123456789",
    experiment="digits",
    started="2026-01-02T03:04:05+00:00",
    model=None,
    student="kd",
    metrics={"cost/flops": 2_000_000},
    parameters=1_210,
    test_accuracy=None,
)
PAIR = SideBySide(
    a=A,
    b=A.model_copy(update={"model": "models:/digits-student/3", "test_accuracy": "95.00 % (93.00 to 96.00)"}),
    comparable=True,
    note="Both have the same 432 validation images.",
    differences=[FieldDifference(field="student.epochs", a=40, b=None)],
    students=[
        StudentPair(
            variant="kd",
            a=0.9,
            b=0.95,
            same_run=False,
            difference=0.05,
            low=0.01,
            high=0.09,
            p_seeds=0.01,
            p_examples=0.02,
        ),
        StudentPair(variant="hint", a=0.9, b=0.9, same_run=True),
    ],
    result="B minus A is +5.00 points.",
)


def test_both_sides_their_files_and_their_students_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_side_by_side(PAIR)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    words = [" ".join(line.split()) for line in lines]
    assert lines[0] == f"A         digits, run 01234567 of {local_time(A.started)}, winner kd"
    assert lines[1].startswith("B         models:/digits-student/3, kd of digits, run 01234567, 95.00 %")
    assert "result    B minus A is +5.00 points." in lines
    assert "student.epochs 40" in words
    assert "kd 90.00 95.00 +5.00 (1.00 to 9.00) 0.010 0.020" in words
    assert "hint 90.00 90.00 same run" in words
    assert lines[-1] == "costs B   1,210 parameters, 2 MFLOPs"


def test_equal_files_are_said_to_be_equal(capsys: pytest.CaptureFixture[str]) -> None:
    print_side_by_side(PAIR.model_copy(update={"differences": []}))
    assert "the experiment files do not differ" in capsys.readouterr().out
