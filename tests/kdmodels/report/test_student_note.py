"""The description of a student's run: a distilled student, a control, and a hostile name."""

from kdmodels.report.leaderboard import leaderboard
from kdmodels.report.student_note import StoredNetwork, student_note
from tests.support.reports import contents
from tests.support.students import student

STORED = StoredNetwork(seed=2, epoch=40, accuracy=0.98)
TERMS = ["0.1 hard_labels", "auto soft_targets, temperature 4"]


def test_a_note_has_the_objective_the_result_against_the_control_and_the_stored_network() -> None:
    compared = contents()
    text = student_note(compared, compared.row("kd"), TERMS, STORED, "#/run")
    assert text.split("\n\n") == [
        "**Objective:** 0.1 hard\\_labels + auto soft\\_targets, temperature 4",
        "**Result:** rank 1 of 3 in [the comparison](#/run), 95.00 ± 2.65 % on validation images, "
        "+3.00 (0.52 to 5.48) points against hard-labels, p (Holm) 0.035.",
        "**Stored network:** seed 2 of 0 to 2, epoch 40, 98.00 % on validation images.\n",
    ]


def test_the_picture_of_disagreements_is_linked() -> None:
    compared = contents()
    text = student_note(compared, compared.row("kd"), TERMS, STORED, "#/run", "#/picture")
    assert text.endswith("[Validation images on which student and teacher disagree most](#/picture)\n")


def test_a_control_is_not_compared_with_itself() -> None:
    compared = contents()
    text = student_note(compared, compared.row("hard-labels"), ["1 hard_labels"], STORED, "#/run")
    assert "against" not in text
    assert "rank 2 of 3 in [the comparison](#/run), 92.00 ± 2.65 % on validation images." in text


def test_one_seed_has_no_test_and_a_hostile_control_is_no_markdown() -> None:
    rows = leaderboard([student("<b>", [0.9]), student("kd", [0.95], control="<b>")])
    compared = contents(rows=rows)
    text = student_note(compared, compared.row("kd"), ["1 hard_labels"], STORED, "#/run")
    assert "+5.00 points against &lt;b&gt;." in text
    assert "seed 2 of 0, epoch" in text
