"""What the MLflow UI shows of a real comparison: descriptions, images and a saved view."""

import json
import re

from mlflow import MlflowClient

from tasks import tracking
from tasks.mlflow_pages import COLUMNS, addresses
from tasks.references import StudentReference
from tasks.results import DISAGREEMENTS, FIGURES, REPORT, ROWS, VERDICT
from tasks.tracking.tags import Tag
from tests.conftest import Recorded

NOTE = "mlflow.note.content"


def students_of(comparison: str) -> dict[str, StudentReference]:
    rows = [StudentReference.model_validate(row) for row in tracking.read_json(comparison, ROWS)]
    return {row.variant: row for row in rows}


def test_the_run_has_a_description_with_verdict_links_and_leaderboard(recorded: Recorded) -> None:
    text = tracking.get(recorded.first).tags[NOTE]
    (line,) = [line for line in text.splitlines() if line.startswith("[Report with charts]")]
    links = dict(re.findall(r"\[([^]]+)\]\(([^)]+)\)", line))
    assert [*links] == ["Report with charts", "Students in the runs table", "Students side by side"]
    assert links["Report with charts"] == tracking.artifact_link(recorded.first, REPORT)
    assert links["Students in the runs table"] == tracking.saved_view_link(recorded.first)
    verdict = json.loads(tracking.artifact(recorded.first, VERDICT).read_text())
    assert f"**{verdict['reason']}**".replace("_", "\\_") in text
    assert "| 1 | " in text


def test_the_main_charts_are_images_of_the_run(recorded: Recorded) -> None:
    names = {file.name for file in tracking.artifact(recorded.first, FIGURES).iterdir()}
    assert names == {"accuracies.svg", "pareto.svg", "learning-curves.svg", "confusion-matrices.svg"}


def test_the_saved_view_has_the_students_and_the_teacher_and_columns_that_exist(recorded: Recorded) -> None:
    run = tracking.get(recorded.again)
    experiment = MlflowClient().get_experiment_by_name("small")
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{recorded.again}"])
    found = MlflowClient().search_runs([experiment.experiment_id], json.loads(view["state"])["searchFilter"])
    students = {student.run_id for student in students_of(recorded.again).values()}
    assert {shown.info.run_id for shown in found} == students | {run.tags[Tag.TEACHER_RUN]}
    winner = tracking.get(run.tags[Tag.WINNER_RUN])
    assert set(COLUMNS) <= set(winner.metrics)


def test_the_experiment_has_the_latest_verdict_as_its_description(recorded: Recorded) -> None:
    text = MlflowClient().get_experiment_by_name("small").tags[NOTE]
    reason, _, links = text.partition("\n\nVerdict of the comparison of ")
    verdict = json.loads(tracking.artifact(recorded.again, VERDICT).read_text())
    assert reason == f"**{verdict['reason']}**".replace("_", "\\_")
    assert f"[Comparison]({tracking.run_link(recorded.again)})" in links


def test_a_trained_student_is_described_and_a_reused_one_keeps_its_description(recorded: Recorded) -> None:
    first, again = students_of(recorded.first), students_of(recorded.again)
    assert again["hard-labels"].reused
    note = {name: tracking.get(str(student.run_id)).tags[NOTE] for name, student in again.items()}
    assert "**Objective:** 0.1 hard\\_labels + 0.9 soft\\_targets, temperature 2" in note["kd"]
    assert f"[the comparison]({tracking.run_link(recorded.again)})" in note["kd"]
    assert " points against hard-labels" in note["kd"]
    assert f"[the comparison]({tracking.run_link(recorded.first)})" in note["hard-labels"]
    replica = json.loads(tracking.get(str(again["kd"].run_id)).tags[Tag.REPLICA])
    assert f"**Stored network:** seed {replica['seed']} of 0 to 1, epoch {replica['epoch']}, " in note["kd"]
    assert first["kd"].run_id != again["kd"].run_id


def test_a_distilled_student_has_a_picture_of_its_disagreements_and_a_link(recorded: Recorded) -> None:
    runs = {name: str(student.run_id) for name, student in students_of(recorded.first).items()}
    path = f"{FIGURES}/{DISAGREEMENTS}"
    assert tracking.has_artifact(runs["kd"], path)
    assert f"]({tracking.artifact_link(runs['kd'], path)})" in tracking.get(runs["kd"]).tags[NOTE]
    assert not tracking.has_artifact(runs["hard-labels"], path)
    assert DISAGREEMENTS not in tracking.get(runs["hard-labels"]).tags[NOTE]


def test_the_addresses_are_known_only_while_a_ui_serves_the_store(recorded: Recorded) -> None:
    students = [*students_of(recorded.first).values()]
    assert addresses(recorded.first, students) == {}
    with tracking.ui_announced(tracking.configure(), "http://127.0.0.1:1234"):
        shown = addresses(recorded.first, students)
    assert shown["runs"] == f"http://127.0.0.1:1234/{tracking.saved_view_link(recorded.first)}"
    assert shown["compare"].startswith("http://127.0.0.1:1234/#/compare-runs?runs=")
