"""The record of a real promotion: model card, tags, evidence, and the registered model's description."""

from mlflow import MlflowClient

from tasks import tracking
from tasks.model_cards import ABOUT
from tasks.results import PROMOTIONS, VERDICT
from tasks.tracking.tags import PREFIX, Tag
from tests.conftest import Recorded

MODEL = "small-student"


def first_version() -> tracking.Version:
    return tracking.versions(MODEL)[-1]


def test_the_description_of_a_version_is_its_model_card(recorded: Recorded) -> None:
    version = first_version()
    text = MlflowClient().get_model_version(MODEL, str(version.version)).description
    verdict = tracking.read_json(recorded.first, VERDICT)
    accuracy = verdict["evidence"]["challenger"]["accuracy"]
    assert text.startswith(f"**{verdict['reason']}**".replace("_", "\\_"))
    assert f"| accuracy | {100 * accuracy:.2f} % on {verdict['evidence']['n']} images |" in text
    assert f"models:/{MODEL}/{version.version}" in text
    assert f"| digest of the test images | {verdict['evidence']['test']['digest']} |" in text
    assert f"| run of the comparison | {recorded.first} |" in text
    assert len(text) < 5_000


def test_a_version_has_few_tags(recorded: Recorded) -> None:
    version = first_version()
    verdict = tracking.read_json(recorded.first, VERDICT)
    tags = {tag: value for tag, value in version.tags.items() if tag.startswith(PREFIX)}
    assert {*tags} == {Tag.VARIANT, Tag.COMPARISON, Tag.TEST_ACCURACY, Tag.TEST_DIGEST}
    assert tags[Tag.VARIANT] == verdict["winner"]
    assert tags[Tag.COMPARISON] == recorded.first
    assert tags[Tag.TEST_ACCURACY].startswith(f"{100 * verdict['test_accuracy'][verdict['winner']]:.2f} % (")
    assert tags[Tag.TEST_DIGEST] == verdict["evidence"]["test"]["digest"]


def test_the_evidence_is_an_artifact_of_the_students_run(recorded: Recorded) -> None:
    version = first_version()
    promotion = tracking.read_json(str(version.run_id), PROMOTIONS)[MODEL]
    verdict = tracking.read_json(recorded.first, VERDICT)
    assert promotion == {
        "comparison": recorded.first,
        "reason": verdict["reason"],
        "forced": None,
        "evidence": verdict["evidence"],
    }


def test_the_registered_model_says_what_its_versions_are(recorded: Recorded) -> None:
    assert MlflowClient().get_registered_model(MODEL).description == ABOUT
