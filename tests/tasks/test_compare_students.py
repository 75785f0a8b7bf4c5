"""Notes beside a leaderboard."""

from tasks.compare_students import extreme_weights, weak_teacher
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


def test_a_teacher_better_than_every_control_has_no_note() -> None:
    assert weak_teacher(STUDENTS, 0.951) == []


def test_a_teacher_no_better_than_a_control_has_a_note() -> None:
    (note,) = weak_teacher(STUDENTS, 0.95)
    assert note.startswith("the teacher (95.00 %) is no better on validation than wide-alone (95.00 %)")
    assert len(weak_teacher(STUDENTS, 0.5)) == 2


def test_a_failed_control_has_no_note() -> None:
    assert weak_teacher([student("hard-labels", "hard-labels", None), STUDENTS[1]], 0.1) == []


def test_a_weight_far_from_the_gradient_of_the_labels_has_a_note() -> None:
    ratios = {"gradient_ratio/hint": 152.3, "gradient_ratio/soft_targets": 0.5}
    vid = {"gradient_ratio/variational_information": 0.02}
    students = [
        STUDENTS[0],
        STUDENTS[1].model_copy(update={"metrics": STUDENTS[1].metrics | ratios}),
        STUDENTS[3].model_copy(update={"variant": "vid", "metrics": STUDENTS[3].metrics | vid}),
    ]
    assert extreme_weights(students) == [
        "kd: at the start, the gradient of hint is 1.5e+02 times that of cross entropy at weight 1. "
        "To make both equal, use weight: auto",
        "vid: at the start, the gradient of variational_information is 0.02 times that of cross entropy at weight 1. "
        "To make both equal, use weight: auto",
    ]
