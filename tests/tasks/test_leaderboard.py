"""What is said beside a leaderboard."""

from tasks.leaderboard import weak_teacher
from tasks.references import StudentReference


def student(variant: str, control: str, accuracy: float | None) -> StudentReference:
    return StudentReference(
        variant=variant,
        control=control,
        run_id=variant,
        status="FAILED" if accuracy is None else "FINISHED",
        reused=False,
        seeds=[0],
        metrics={} if accuracy is None else {"val/accuracy": accuracy},
        per_seed={},
        parameters=1,
    )


STUDENTS = [
    student("hard-labels", "hard-labels", 0.90),
    student("kd", "hard-labels", 0.99),
    student("wide-alone", "wide-alone", 0.95),
    student("wide", "wide-alone", 0.97),
]


def test_a_teacher_that_is_better_than_every_control_is_not_mentioned() -> None:
    assert weak_teacher(STUDENTS, 0.951) == []


def test_a_teacher_no_better_than_a_control_is_said_for_that_control() -> None:
    (note,) = weak_teacher(STUDENTS, 0.95)
    assert note.startswith("the teacher (95.00 %) is no better on validation than wide-alone (95.00 %)")
    assert len(weak_teacher(STUDENTS, 0.5)) == 2


def test_a_control_that_failed_says_nothing() -> None:
    assert weak_teacher([student("hard-labels", "hard-labels", None), STUDENTS[1]], 0.1) == []
