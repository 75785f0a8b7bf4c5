"""The first section answers the questions of a reader who knows only the report."""

from dataclasses import replace

from kdmodels.evaluation.requirements import Rule
from kdmodels.report.components import Table, Text
from kdmodels.report.contents import Contents, DataFacts, Effort, PlannedRun, Teacher
from kdmodels.report.leaderboard import Costs, leaderboard
from kdmodels.report.sections.verdict import verdict_section
from tests.support.reports import VERDICT, column, contents
from tests.support.students import CONTROL, failed, student


def answers(of: Contents) -> dict[str, str]:
    table = next(each for each in verdict_section(of).components if isinstance(each, Table))
    return dict(zip(column(table, "question"), column(table, "answer"), strict=True))


def test_the_verdict_comes_first() -> None:
    assert verdict_section(contents()).components[0] == Text("kd becomes the first champion.", role="verdict")


def test_each_question_is_answered() -> None:
    shown = answers(contents())
    assert shown["Which variant won?"] == "kd, 95.00 ± 2.65 % on validation images"
    assert shown["Is the gain real?"].startswith("Yes. kd is better than hard-labels by 3.00 points")
    assert shown["How close is it to the teacher?"].startswith("It closes 50 % (95 % interval 9 % to 91 %) of the gap")
    assert shown["How accurate is it on test images?"].startswith(
        "kd 93.75 %, hard-labels 87.50 %. These are the stored"
    )
    assert shown["What does it cost?"] == "100 parameters (10 % of the teacher's)"
    assert shown["What would be deployed?"].startswith(
        "kd, which this comparison promoted to models:/small-student/3, "
    )
    assert "kd predict small-student IMAGE" in shown["What would be deployed?"]
    assert shown["How is it reproduced?"].startswith("kd run small.yaml, with the experiment file at the end")
    assert "kd show 01234567 --spec" in shown["How is it reproduced?"]


def test_data_and_time_are_named_if_they_are_recorded() -> None:
    data = DataFacts("digits", {}, {}, [], notes=["100 of 1006 examples keep their labels", "906 are unlabelled"])
    runs = [PlannedRun("teacher", "train", "new", Effort(1.26)), PlannedRun("kd", "train", "new", Effort(3.49))]
    shown = answers(contents(data=data, runs=runs, stages={"data": Effort(2.0), "students": Effort(8.0)}))
    assert shown["What did the students learn from?"] == "100 of 1006 examples keep their labels; 906 are unlabelled"
    assert shown["How long did it train?"] == "kd, all seeds 3.49 s, teacher 1.26 s, whole comparison 10 s"
    assert {"What did the students learn from?", "How long did it train?"}.isdisjoint(answers(contents()))


def test_an_earlier_champion_stays_deployed() -> None:
    kept = replace(VERDICT, reason="refused", promoted=False)
    expected = "models:/small-student/3, the registered model in use already before this comparison. "
    assert answers(contents(verdict=kept))["What would be deployed?"].startswith(expected)


def test_a_cost_above_the_teachers_is_a_whole_percentage() -> None:
    metrics = {"val/accuracy": 0.92, "latency/p50_ms": 0.0237, "size/file_mb": 1.27}
    large = leaderboard([student("kd", [0.9, 0.91, 0.95], metrics=metrics)])
    teacher = Teacher(0.98, Costs(parameters=1_000, p50_ms=0.0186, file_mb=1.0))
    assert answers(contents(rows=large, teacher=teacher))["What does it cost?"] == (
        "100 parameters (10 % of the teacher's), 0.0237 ms per image, 1.27 MB of weights (127 % of the teacher's)"
    )


def test_the_requirements_are_shown_with_the_measured_values() -> None:
    rules = [Rule("accuracy", 0.91234, ">= 0.9", holds=True), Rule("parameters", 61_000, "<= 60000", holds=False)]
    components = verdict_section(contents(verdict=replace(VERDICT, rules=rules))).components
    _, table = [each for each in components if isinstance(each, Table)]
    assert column(table, "requirement") == ["test accuracy's lower 95% bound", "the number of parameters"]
    assert column(table, "measured") == ["0.9123", "61,000"]
    assert column(table, "met") == ["yes", "no"]


def test_without_a_champion_nothing_is_deployed() -> None:
    refused = replace(VERDICT, reason="refused", version=None, promoted=False)
    assert answers(contents(verdict=refused))["What would be deployed?"] == "nothing: small-student has no champion"


def test_a_comparison_without_verdict_teacher_and_winner_has_a_section() -> None:
    shown = answers(contents(verdict=None, teacher=None))
    assert {"How close is it to the teacher?", "How accurate is it on test images?"}.isdisjoint(shown)
    assert shown["What would be deployed?"] == "nothing was decided"
    empty = contents(verdict=None, winner=None, rows=leaderboard([failed("broken")]), notes=["the data are odd"])
    texts = [each for each in verdict_section(empty).components if isinstance(each, Text)]
    assert [text.text for text in texts[:2]] == [
        "The comparison ended before the promotion gate decided.",
        "Note: the data are odd",
    ]


def test_the_best_control_has_no_gap() -> None:
    worse = student("kd", [0.8, 0.81, 0.8])
    shown = answers(contents(rows=leaderboard([CONTROL, worse]), winner="hard-labels"))
    assert shown["How close is it to the teacher?"] == "The teacher has 98.00 % on validation images."
    assert shown["Is the gain real?"].startswith("No. hard-labels, the control, has the highest validation accuracy")


def test_a_gain_that_is_not_significant_or_not_tested_is_not_real() -> None:
    near = leaderboard([CONTROL, student("kd", [0.9, 0.92, 0.95])])
    assert answers(contents(rows=near))["Is the gain real?"].startswith("Not shown. kd is ahead of hard-labels by 0.33")
    single = leaderboard([student("hard-labels", [0.9]), student("kd", [0.95])])
    assert answers(contents(rows=single))["Is the gain real?"].startswith("Not tested. kd is ahead of hard-labels")
