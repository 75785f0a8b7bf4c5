"""Functions that show a comparison in the MLflow UI: as descriptions, images of charts and a saved view of the runs."""

import json
from collections.abc import Sequence

from kdmodels.evaluation.ranking import ranked
from kdmodels.experiment import Experiment
from kdmodels.report.contents import Contents
from kdmodels.report.losses import term_in_words
from kdmodels.report.report import SUMMARY, description, images, summary
from kdmodels.report.student_note import StoredNetwork, student_note
from tasks import tracking
from tasks.references import StudentReference
from tasks.results import ACCURACY, DISAGREEMENTS, FIGURES, REPORT, SIZE
from tasks.tracking.tags import Tag

COLUMNS = (
    ACCURACY,
    f"{ACCURACY}/std",
    "val/macro_f1",
    "val/ece",
    SIZE,
    "cost/flops",
    "latency/p50_ms",
    "seconds/training",
    "test/accuracy",
)
"""The metrics that are columns of the runs table. docs/report.md explains them."""
MOST_COMPARED = 20  # maximum number of runs on the compare page, because the page is slow with many runs


def show_comparison(contents: Contents) -> None:
    """Describe the run and the experiment of a comparison in the MLflow UI. The report must already be stored.

    With cross-validation, the saved view shows the students of the first fold.
    """
    run = tracking.get(contents.run_id)
    tracking.log_files(run.run_id, FIGURES, images(contents))
    best = [row.student.run_id for row in contents.finished if row.student.run_id]
    teacher = [run.tags[Tag.TEACHER_RUN]] if Tag.TEACHER_RUN in run.tags else []
    tracking.save_view(run.run_id, f"{contents.experiment} {contents.started}", [*best, *teacher], COLUMNS)
    links = {
        "Report with charts": tracking.artifact_link(run.run_id, REPORT),
        "Students in the runs table": tracking.saved_view_link(run.run_id),
        "Students side by side": tracking.compare_link([*best[: MOST_COMPARED - 1], *teacher]),
        **({"Prefect run": run.tags[Tag.PREFECT_URL]} if Tag.PREFECT_URL in run.tags else {}),
    }
    tracking.describe(run.run_id, description(contents, links))
    overview = {"Comparison": tracking.run_link(run.run_id), **links}
    tracking.describe_experiment(run.run_id, summary(contents, overview), replaces=SUMMARY)


def show_students(contents: Contents, students: Sequence[StudentReference]) -> None:
    """Describe the runs of the students that the comparison trained. The description of a reused run is kept."""
    experiment = Experiment.model_validate(tracking.read_json(contents.run_id, "experiment.json"))
    terms = {variant.name: list(map(term_in_words, variant.terms)) for variant in experiment.variants}
    link = tracking.run_link(contents.run_id)
    trained = {run.run_id: run for run in tracking.children(contents.run_id)}
    rows = {row.student.run_id: row for row in contents.finished}
    for student in students:
        if student.run_id in trained and student.run_id in rows:
            replica = json.loads(trained[student.run_id].tags[Tag.REPLICA])
            stored = StoredNetwork(replica["seed"], replica["epoch"], replica[ACCURACY])
            pictures = _pictures_link(student.run_id)
            note = student_note(contents, rows[student.run_id], terms[student.variant], stored, link, pictures)
            tracking.describe(student.run_id, note)


def _pictures_link(run_id: str) -> str | None:
    """Return the link to the picture of a student's disagreements with its teacher, or None if there is no picture."""
    path = f"{FIGURES}/{DISAGREEMENTS}"
    return tracking.artifact_link(run_id, path) if tracking.has_artifact(run_id, path) else None


def addresses(parent: str, students: Sequence[StudentReference]) -> dict[str, str]:
    """Return the addresses of the two pages of the MLflow UI that show the students.

    The mapping has the key `runs` for the runs table, and the key `compare` for the page that compares runs. If no UI
    of the store is known, the mapping is empty.

    Args:
        parent: The id of the comparison's run.
        students: The students of the comparison.
    """
    best = [student.run_id for student in ranked(students) if student.run_id]
    links = {"runs": tracking.saved_view_link(parent), "compare": tracking.compare_link(best[:MOST_COMPARED])}
    return {name: address for name, link in links.items() if (address := tracking.address(link))}
