"""Functions that record a promotion: the tags and the model card of the registered version, and the evidence."""

from collections.abc import Mapping

from pydantic import JsonValue

from kdmodels.evaluation.requirements import check_requirements
from kdmodels.experiment import Experiment
from kdmodels.report.contents import DataFacts
from kdmodels.report.formats import interval, percent
from kdmodels.report.losses import term_in_words
from kdmodels.report.model_card import ModelCard, model_card
from tasks import tracking
from tasks.held_out import HeldOut
from tasks.promotion import Judgement, Measurements, Request
from tasks.report_contents import VERSIONS
from tasks.results import ACCURACY, PROMOTIONS
from tasks.tracking.tags import Tag

ABOUT = (
    "Students that kdflow's promotion gate accepted. Each version is one ONNX file, and its description is its model "
    "card. The alias `champion` marks the version in use, `previous` the champion before it, and `pending` a version "
    "that waits for approval. `kd history` lists the decisions."
)


def version_tags(request: Request, judgement: Judgement, measurements: Measurements) -> dict[str, str]:
    """Return the tags of the model version that is registered for a student."""
    student, look = measurements.candidates[judgement.verdict.name], measurements.look
    optional: dict[str, str | None] = {
        Tag.LOOK: f"{look.number} of {look.of}" if look else None,
        Tag.FORCED: judgement.forced,
    }
    return {
        Tag.VARIANT: student.name,
        Tag.COMPARISON: request.leaderboard.parent_run_id,
        Tag.TEST_ACCURACY: f"{percent(student.accuracy)} ({interval(*student.accuracy_interval)})",
        Tag.TEST_DIGEST: measurements.test.digest,
        **{tag: value for tag, value in optional.items() if value},
    }


def record_evidence(request: Request, judgement: Judgement) -> None:
    """Store the evidence that justifies a promotion with the student's run, under the name of the registered model."""
    content = {
        "comparison": request.leaderboard.parent_run_id,
        "reason": judgement.verdict.reason,
        "forced": judgement.forced,
        "evidence": judgement.verdict.evidence,
    }
    add_promotion(request.run_id, request.promote.model, content)


def add_promotion(run_id: str, model: str, content: Mapping[str, JsonValue]) -> None:
    """Add the record of a promotion to the run of the promoted network, under the name of the registered model."""
    recorded = tracking.read_json(run_id, PROMOTIONS) if tracking.has_artifact(run_id, PROMOTIONS) else {}
    tracking.log_json(run_id, PROMOTIONS, {**recorded, model: content})


def facts_of(test: HeldOut) -> DataFacts:
    """Return the facts about the data that a model card lists."""
    return DataFacts(
        source=test.data.data.source,
        digests={"digest of the data": test.data.digest, "digest of the test images": test.digest},
        examples={split: count for split, count in test.data.examples.items() if split != "taught"},
        classes=test.data.classes,
        notes=[],
    )


def describe_version(
    version: tracking.Version, request: Request, judgement: Judgement, measurements: Measurements, test: HeldOut
) -> None:
    """Write the model card of a version into the version's description, and describe the registered model."""
    comparison = tracking.get(request.leaderboard.parent_run_id)
    experiment = Experiment.model_validate(tracking.read_json(comparison.run_id, "experiment.json"))
    verdict, data = judgement.verdict, test.data
    student = measurements.candidates[verdict.name]
    terms = next((variant.terms for variant in experiment.variants if variant.name == student.name), [])
    card = ModelCard(
        model=version.model,
        version=version.version,
        decision=verdict.reason,
        student=student,
        look=measurements.look,
        requirements=check_requirements(student, request.promote.require),
        objective=list(map(term_in_words, terms)),
        teacher=_teacher(request.leaderboard.teacher_run_id),
        data=facts_of(test),
        image=data.input_shape,
        experiment=experiment.name,
        runs={"run of the student": request.run_id, "run of the comparison": comparison.run_id},
        versions={library: comparison.tags[tag] for library, tag in VERSIONS.items() if tag in comparison.tags},
        licence=request.promote.licence,
    )
    tracking.describe_version(version, model_card(card))
    tracking.describe_model(version.model, ABOUT)


def _teacher(run_id: str | None) -> str:
    if run_id is None:
        return ""
    run = tracking.get(run_id)
    return f"run {run_id}, {percent(run.metrics[ACCURACY])} on validation images"
