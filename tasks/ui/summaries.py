"""Summaries of what tasks return, in one line each. Flows write them to their logs, which Prefect's UI shows."""

from tasks.references import (
    DataReference,
    GeneratorOutcome,
    GeneratorPlan,
    GeneratorReference,
    KnowledgeReference,
    LeaderboardReference,
    Outcome,
    Plan,
    StudentReference,
    TeacherReference,
)
from tasks.results import ACCURACY

TRAINING = "seconds/training"


def data(reference: DataReference) -> str:
    """Return the source of the data and the number of examples of each split."""
    splits = {name: count for name, count in reference.examples.items() if name != "taught"}
    return f"{reference.data.source}, {', '.join(f'{count:,} {name}' for name, count in splits.items())} examples"


def plan(planned: Plan | GeneratorPlan) -> str:
    """Return how many networks are trained, and how many are reused.

    >>> from tasks.references import PlannedRun, Views
    >>> step = PlannedRun(
    ...     name="teacher", kind="teacher", action="reuse", reason="", key="", replicas="", params={}, seeds=[0]
    ... )
    >>> views = Views(count=1, reason="")
    >>> plan(Plan(teacher=step, knowledge=views, students=[step.model_copy(update={"kind": "student"})]))
    'nothing has changed: all 2 earlier runs are reused'
    """
    reused = [step for step in planned.steps if step.action == "reuse"]
    if len(reused) == len(planned.steps):
        return f"nothing has changed: all {len(reused)} earlier runs are reused"
    trained = [step.name for step in planned.steps if step.action != "reuse"]
    return f"{len(reused)} earlier runs are reused. To train or load: {', '.join(trained)}"


def teacher(reference: TeacherReference) -> str:
    """Return the accuracy of a teacher, and whether its run was reused."""
    return f"{accuracy(reference.metrics)}, {'reused' if reference.reused else 'new'}"


def generator(reference: GeneratorReference) -> str:
    """Return the quality metrics of a generator, and whether its run was reused."""
    names = ("frechet_distance", "precision", "recall")
    measures = ", ".join(f"{name.replace('_', ' ')} {reference.metrics[f'quality/{name}']:.3g}" for name in names)
    return f"{measures}, {'reused' if reference.reused else 'new'}"


def generation(reference: GeneratorOutcome) -> str:
    """Return the verdict on a generator. Prefect shows this line as the message of the flow run."""
    return reference.verdict.reason


def knowledge(reference: KnowledgeReference, variants: int) -> str:
    """Return whether the teacher's outputs are stored or computed during training, and whether they were reused.

    Args:
        variants: Number of students that use the outputs and are trained in this run, that is, not reused.
    """
    if not variants:
        return "no student that uses the teacher's outputs is trained"
    if not reference.views:
        return "the teacher computes its outputs while the students are trained"
    views = f"outputs of the teacher for {reference.views} view{'s' * (reference.views > 1)} of the training images"
    return f"{views}, {'reused' if reference.reused else 'stored'}"


def student(reference: StudentReference) -> str:
    """Return the accuracy of a student, and whether the student was reused or how long its training took.

    >>> kd = StudentReference(
    ...     variant="kd", run_id="1", status="FINISHED", reused=False, seeds=[0, 1], parameters=10, per_seed={},
    ...     metrics={"val/accuracy": 0.9722, "val/accuracy/std": 0.004, "seconds/training": 4.21},
    ... )
    >>> student(kd)
    'validation accuracy 97.22 ± 0.40 %, trained in 4.2 s'
    >>> student(kd.model_copy(update={"reused": True}))
    'validation accuracy 97.22 ± 0.40 %, reused'
    """
    if not reference.finished:
        return f"{reference.status.lower()}: {reference.error or 'no error was recorded'}"
    seconds = reference.metrics.get(TRAINING)
    trained = "reused" if reference.reused else "trained" + (f" in {seconds:.1f} s" if seconds is not None else "")
    return f"{accuracy(reference.metrics)}, {trained}"


def students(references: list[StudentReference]) -> str:
    """Return how many students were trained, reused and failed."""
    counts = {
        "trained": sum(each.finished and not each.reused for each in references),
        "reused": sum(each.finished and each.reused for each in references),
        "failed": sum(not each.finished for each in references),
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def outcome(reference: Outcome) -> str:
    """Return whether anything was trained, and the verdict. Prefect shows this line as the message of the flow run."""
    reused = [reference.teacher.reused, *(each.reused for each in reference.students)]
    if all(reused):
        return f"nothing has changed: all {len(reused)} earlier runs are reused; {reference.verdict.reason}"
    return f"students: {students(reference.students)}; {reference.verdict.reason}"


def leaderboard(reference: LeaderboardReference) -> str:
    """Return the variant with the highest validation accuracy."""
    best = next(each for each in reference.students if each.variant == reference.winner)
    return f"{best.variant} is best, {accuracy(best.metrics)}"


def accuracy(metrics: dict[str, float]) -> str:
    """Return the validation accuracy in percent, with its standard deviation over seeds if there is one."""
    deviation = metrics.get(f"{ACCURACY}/std")
    spread = "" if deviation is None else f" ± {100 * deviation:.2f}"
    return f"validation accuracy {100 * metrics[ACCURACY]:.2f}{spread} %"
