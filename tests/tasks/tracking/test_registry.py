import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput

from kdmodels.errors import UserError
from tasks import tracking
from tasks.tracking import registry
from tasks.tracking.contents import ONNX
from tasks.tracking.tags import Tag


def with_model(name: str = "kd") -> str:
    """Return a run with a logged model without files, because the registry never reads them."""
    client = MlflowClient()
    run = tracking.start("digits", name, "student")
    model = client.create_logged_model(
        tracking.experiment_id("digits"), name="model", source_run_id=run, tags={Tag.FORMAT: ONNX}
    )
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    return run


def register(run: str, model: str = "digits-student", **tags: object) -> tracking.Version:
    return tracking.register(model, run, tags=tags, description="a verdict")


def test_a_version_has_its_run_its_model_and_its_evidence(store: Path) -> None:
    run = with_model()
    version = register(run, accuracy=0.97)
    assert version == tracking.Version(
        "digits-student", 1, run, aliases=(), tags={"accuracy": "0.97"}, uri="models:/digits-student/1"
    )
    client = MlflowClient()
    entity = client.get_model_version("digits-student", "1")
    model_id = client.get_run(run).outputs.model_outputs[0].model_id
    assert (entity.source, entity.description) == (f"models:/{model_id}", "a verdict")
    linked = json.loads(client.get_logged_model(model_id).tags["mlflow.modelVersions"])
    assert [(link["name"], int(link["version"])) for link in linked] == [("digits-student", 1)]


def test_registering_a_run_twice_updates_its_one_version(store: Path) -> None:
    run = with_model()
    register(run, accuracy=0.97, kept="yes")
    again = tracking.register("digits-student", run, tags={"accuracy": 0.98}, description="a later verdict")
    assert (again.version, again.tags) == (1, {"accuracy": "0.98", "kept": "yes"})
    assert tracking.versions("digits-student") == [again]
    assert MlflowClient().get_model_version("digits-student", "1").description == "a later verdict"
    assert register(run, "another").version == 1
    assert register(with_model()).version == 2


def test_a_description_of_a_version_is_replaced_and_cut(store: Path) -> None:
    version = register(with_model())
    tracking.describe_version(version, "x" * 6_000)
    description = MlflowClient().get_model_version("digits-student", "1").description
    assert (len(description), description[-1]) == (5_000, "…")


def test_a_description_of_a_model_that_somebody_wrote_is_kept(store: Path) -> None:
    register(with_model())
    tracking.describe_model("digits-student", "first")
    tracking.describe_model("digits-student", "second")
    assert MlflowClient().get_registered_model("digits-student").description == "first"


def test_the_old_champion_becomes_previous(store: Path) -> None:
    first, second = register(with_model("a")), register(with_model("b"))
    assert tracking.champion("digits-student") is None
    assert tracking.set_champion(first).aliases == ("champion",)
    assert tracking.set_champion(first).aliases == ("champion",)

    for _ in range(2):  # the second time changes nothing
        assert tracking.set_champion(second).aliases == ("champion",)
        assert [version.aliases for version in tracking.versions("digits-student")] == [("champion",), ("previous",)]
        champion = tracking.champion("digits-student")
        assert champion is not None
        assert champion.run_id == second.run_id


def test_each_rollback_goes_further_back_and_the_last_is_refused(store: Path) -> None:
    for name in "abc":
        tracking.set_champion(register(with_model(name)))
    assert tracking.rollback("digits-student").version == 2
    assert [each.aliases for each in tracking.versions("digits-student")] == [(), ("champion",), ("previous",)]
    assert tracking.rollback("digits-student").version == 1
    assert [each.aliases for each in tracking.versions("digits-student")] == [(), (), ("champion",)]
    with pytest.raises(UserError, match=r"no previous champion .* --to VERSION. It has: 3, 2$"):
        tracking.rollback("digits-student")
    assert tracking.find_model("digits-student").version == 1


def test_a_champion_that_was_promoted_again_is_rolled_back_past_its_substitute(store: Path) -> None:
    first, second, third = (register(with_model(name)) for name in "abc")
    for version in (first, second, third, second):
        tracking.set_champion(version)
    register(second.run_id or "")  # a promotion of the champion changes nothing
    assert tracking.rollback("digits-student").version == third.version
    with pytest.raises(UserError, match="no previous champion"):  # version 3 replaced version 2, which replaced it
        tracking.rollback("digits-student")


def test_a_rollback_can_be_undone(store: Path) -> None:
    for name in "abc":
        tracking.set_champion(register(with_model(name)))
    tracking.rollback("digits-student")
    assert tracking.rollback("digits-student", to=3).aliases == ("champion",)
    assert [Tag.ROLLED_BACK in each.tags for each in tracking.versions("digits-student")] == [False, False, False]
    assert tracking.rollback("digits-student").version == 2


def test_a_rollback_skips_deleted_versions(store: Path) -> None:
    for name in "ab":
        tracking.set_champion(register(with_model(name)))
    tracking.delete_version(tracking.find_model("digits-student/1"))
    with pytest.raises(UserError, match=r"no previous champion to go back to$"):
        tracking.rollback("digits-student")


def test_an_interrupted_rollback_can_be_repeated(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = register(with_model("a")), register(with_model("b"))
    tracking.set_champion(first)
    tracking.set_champion(second)

    def killed(version: tracking.Version) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_set_champion", killed)
        with pytest.raises(KeyboardInterrupt):
            tracking.rollback("digits-student")
    assert tracking.rollback("digits-student").aliases == ("champion",)
    assert [version.aliases for version in tracking.versions("digits-student")] == [(), ("champion",)]


def test_the_complete_model_of_an_interrupted_run_is_registered(store: Path) -> None:
    client, run = MlflowClient(), with_model()
    finished = client.get_run(run).outputs.model_outputs[0].model_id
    for ending in (None, "FAILED"):  # what was stored before it went on, whichever the store tells first
        model = client.create_logged_model(
            tracking.experiment_id("digits"), name="model", source_run_id=run, tags={Tag.FORMAT: ONNX}
        )
        if ending:
            client.finalize_logged_model(model.model_id, ending)
        client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    register(run)
    assert client.get_model_version("digits-student", "1").source == f"models:/{finished}"


def test_a_rollback_without_a_previous_champion_is_a_clear_error(store: Path) -> None:
    with pytest.raises(UserError, match=r"'digits-student' is not in the registry\. None exist"):
        tracking.rollback("digits-student")
    tracking.set_champion(register(with_model()))
    with pytest.raises(UserError, match="'digits-student' has no previous champion"):
        tracking.rollback("digits-student")


@pytest.mark.parametrize("prefix", ["", "models:/"])
def test_a_model_is_found_by_name_alias_version_or_uri(store: Path, prefix: str) -> None:
    first, second = register(with_model("a")), register(with_model("b"))
    tracking.set_champion(first)
    tracking.set_champion(second)
    words = {"digits-student": 2, "digits-student@champion": 2, "digits-student@previous": 1, "digits-student/1": 1}
    assert {word: tracking.find_model(prefix + word).version for word in words} == words


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("digit-student", r"'digit-student' is not in the registry. Did you mean 'digits-student'\?"),
        ("digits-student/7", r"has no version 7; it has: 1$"),
        ("digits-student@best", r"has no alias 'best'; it has: none$"),
        ("digits-student", r"has no alias 'champion'; it has: none$"),
        ("digits-student/Production", r"expected name, name@alias or name/3"),
        ("models:/m-0123456789abcdef", r"'m-0123456789abcdef' is not in the registry"),
        ("runs:/abc/model", r"expected name, name@alias or name/3"),
        ("", r"expected name, name@alias or name/3"),
        ("it's", r"'it's' is not in the registry|\"it's\" is not in the registry"),
    ],
)
def test_an_unknown_model_is_a_clear_error_with_the_existing_ones(store: Path, word: str, message: str) -> None:
    register(with_model())
    with pytest.raises(UserError, match=message):
        tracking.find_model(word)


@pytest.mark.parametrize("name", ["", " ", "..", "a/b", "a:b", "a@b", "it's", 'a"b', "a\nb", "x" * 251])
def test_a_forbidden_model_name_is_a_clear_error_and_registers_nothing(store: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^model name .*allowed are 1 to 250 characters"):
        register(with_model(), name)
    assert list(MlflowClient().search_registered_models()) == []


def test_a_run_without_a_model_cannot_be_registered(store: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    with pytest.raises(UserError, match=f"^run '{run}' has no model to register$"):
        register(run)
    assert list(MlflowClient().search_registered_models()) == []


def test_a_version_whose_run_was_deleted_does_not_block_promotion(store: Path) -> None:
    """Such a version once made every later run fail at the gate, after the training."""
    runs = [with_model() for _ in range(3)]
    for run in runs[:2]:
        tracking.set_champion(register(run))
    tracking.rollback("digits-student")
    MlflowClient().delete_run(runs[1])
    assert not tracking.is_rolled_back("digits-student", runs[2])


def test_looks_are_stored_with_the_model_and_survive_its_runs(store: Path) -> None:
    """A pair of models costs one look. Other test data start a new count, with the number of looks declared then."""
    run = with_model()
    register(run)

    def look(
        pair: str, digest: str = "first", sketch: tuple[int, ...] = (1, 2, 3), looks: int = 365
    ) -> tuple[int, int]:
        taken = tracking.take_look("digits-student", pair, digest=digest, sketch=sketch, looks=looks)
        return taken.number, taken.of

    assert [look("a"), look("b"), look("a")] == [(1, 365), (2, 365), (1, 365)]
    tracking.delete_run(run)
    assert look("c", looks=1000) == (3, 365)
    assert look("a", digest="other", sketch=(7, 8, 9), looks=10) == (1, 10)
    assert look("d", digest="grown", sketch=(1, 2, 3, 4)) == (4, 365)
    tags = MlflowClient().get_registered_model("digits-student").tags
    assert set(tags) == {"kd.looks.first", "kd.looks.first.0", "kd.looks.other", "kd.looks.other.0"}
