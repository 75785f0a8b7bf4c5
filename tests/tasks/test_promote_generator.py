"""The promotion of generators: the first, better and worse ones, looks, and champions that can't be compared."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from flows.generate import generate
from kdmodels.errors import UserError
from kdmodels.experiment import GeneratorExperiment
from tasks import tracking
from tasks.model_history import read_history
from tasks.queries import spec
from tasks.references import GeneratorOutcome
from tests.flows.test_generate import MADE

# One of the 360 test images is a copy of a training image.
VAE = {"vae": {"hidden": [64], "latent": 8}, "epochs": 18, "batch": 64, "lr": 0.01}
BETTER = VAE | {"vae": {"hidden": [128], "latent": 8}, "epochs": 45}
GAN = {
    "gan": {"hidden": [64], "latent": 16, "discriminator": [64]},
    "epochs": 20,
    "batch": 64,
    "lr": 0.002,
    "conditional": True,
}


JUDGE = {"network": {"mlp": [32]}, "epochs": 15, "optimizer": {"adam": {"lr": 0.01}}}


def run(name: str, generator: dict[str, Any], **changes: Any) -> GeneratorOutcome:
    return generate(
        GeneratorExperiment.model_validate(MADE | {"name": name, "judge": JUDGE, "generator": generator} | changes)
    )


@pytest.fixture(scope="module")
def outcomes(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[list[GeneratorOutcome]]:
    """A first generator, a better one, the first again, and one of the better kind with another seed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("gate")))
        runs = [(VAE, 0), (BETTER, 0), (VAE, 0), (BETTER, 0)]
        yield [run("made", generator, seed=seed) for generator, seed in runs]


def test_the_first_generator_becomes_the_champion_with_its_card(outcomes: list[GeneratorOutcome]) -> None:
    verdict = outcomes[0].verdict
    assert (verdict.promoted, verdict.accepted, verdict.model, verdict.version) == (True, True, "made", 1)
    assert verdict.reason == "made becomes the first champion: its training neither diverged nor collapsed."
    assert set(verdict.test) == {"test/frechet_distance", "test/elbo", "test/log_likelihood_bound"}
    recorded = tracking.get(outcomes[0].generator.run_id).metrics
    assert {name: recorded[name] for name in verdict.test} == verdict.test
    version = tracking.find_model("made/1")
    assert version.tags["kd.kind"] == "generator"
    card = mlflow.MlflowClient().get_model_version("made", "1").description
    assert card.startswith(f"**{verdict.reason}**")
    assert "kd sample made/1 -n 64 -o grid.png" in card


def test_a_better_generator_replaces_the_champion(outcomes: list[GeneratorOutcome]) -> None:
    verdict = outcomes[1].verdict
    assert (verdict.promoted, verdict.version) == (True, 2)
    assert verdict.reason.startswith(
        "made replaces the champion, version 1: its Fréchet distance on 359 test images is"
    )
    assert verdict.evidence["look"]["number"] == 1
    assert verdict.evidence["champion"]["elbo"] == pytest.approx(outcomes[0].verdict.test["test/elbo"])
    promotions = tracking.read_json(outcomes[1].generator.run_id, "promotions.json")
    assert promotions["made"]["evidence"]["distance"] == verdict.evidence["distance"]
    aliases = {version.version: version.aliases for version in tracking.versions("made")}
    assert aliases == {1: ("previous",), 2: ("champion",)}


def test_both_generators_are_measured_again_by_the_same_judge(outcomes: list[GeneratorOutcome]) -> None:
    evidence = outcomes[1].verdict.evidence
    difference = evidence["challenger"]["distance"] - evidence["champion"]["distance"]
    assert evidence["distance"]["difference"] == pytest.approx(difference)
    changed = run("made", BETTER | {"lr": 0.011}, judge=JUDGE | {"network": {"mlp": [24]}})
    known = outcomes[1].verdict.evidence["challenger"]["distance"]
    assert changed.verdict.evidence["champion"]["distance"] != pytest.approx(known)


def test_a_worse_generator_is_refused_and_the_champion_is_recognised(outcomes: list[GeneratorOutcome]) -> None:
    refused, again = outcomes[2].verdict, outcomes[3].verdict
    assert (refused.promoted, refused.accepted, refused.version) == (False, False, 2)
    assert refused.reason.startswith("made does not replace the champion, version 2: its Fréchet distance on 359 test")
    assert "its ELBO on 359 test images is not significantly higher" in refused.reason
    assert (again.already_champion, again.accepted, again.evidence) == (True, True, {})
    assert again.reason == "made is already the champion, version 2."
    parent = tracking.get(outcomes[2].parent_run_id)
    assert (parent.tags["kd.verdict"], parent.tags["kd.promoted"]) == (refused.reason, "False")
    history = read_history("made")
    decisions = [line.decision for line in history.decisions][:4]
    assert decisions == ["promoted", "promoted", "refused", "champion already"]
    assert history.looks[0].looks >= 2


def test_the_registered_model_runs_without_kdflow(outcomes: list[GeneratorOutcome]) -> None:
    model = mlflow.pyfunc.load_model("models:/made@champion")
    images = model.predict(np.random.default_rng(0).standard_normal((3, 8), dtype=np.float32))["images"]
    assert images.shape == (3, 1, 8, 8)
    assert (images >= 0).all()


def test_the_version_names_the_file_that_reproduces_it(outcomes: list[GeneratorOutcome]) -> None:
    text = spec("made/2")
    assert f"generator generator ({outcomes[1].generator.run_id})" in text
    assert "latent: 8" in text


@pytest.mark.usefixtures("outcomes")
def test_a_generator_without_classes_does_not_replace_one_with_classes() -> None:
    assert run("asked", GAN).verdict.promoted
    images = mlflow.pyfunc.load_model("models:/asked@champion").predict(
        {"codes": np.zeros((2, 16), np.float32), "class": np.eye(10, dtype=np.float32)[[3, 4]]}
    )["images"]
    assert not np.allclose(images[0], images[1])
    verdict = run("asked", BETTER).verdict
    assert verdict.reason == (
        "asked does not replace the champion, version 1: it can't make images of a class, and the champion can."
    )
    assert not verdict.promoted
    assert verdict.test == {}


@pytest.mark.usefixtures("outcomes")
def test_a_collapsed_generator_is_not_promoted() -> None:
    barely = {"gan": {"hidden": [4], "latent": 2, "discriminator": [64]}, "epochs": 1, "lr": 0.1}
    verdict = run("collapsed", barely).verdict
    assert not verdict.promoted
    assert verdict.reason.startswith("collapsed is not promoted: mode collapse: ")
    assert verdict.version is None


@pytest.mark.usefixtures("outcomes")
def test_a_generator_that_was_rolled_back_stays_so() -> None:
    run("rolled", VAE)
    run("rolled", BETTER)
    tracking.rollback("rolled")
    verdict = run("rolled", BETTER).verdict
    assert not verdict.promoted
    assert verdict.reason == (
        "rolled was rolled back; to make a version the champion again: kd rollback rolled --to VERSION."
    )


def test_a_champion_that_makes_other_images_can_not_be_compared(
    outcomes: list[GeneratorOutcome], tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (200, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", images=images, labels=np.arange(200) % 10)
    with pytest.raises(UserError, match=r"^name: the champion of made, version 2, makes images of \(1, 8, 8\), but "):
        run("made", VAE, data={"source": str(tmp_path / "small.npz")})
    tracking.register("foreign", outcomes[0].generator.run_id, tags={}, description="")
    tracking.set_champion(tracking.find_model("foreign/1"))
    with pytest.raises(UserError, match=r"^name: the registered model foreign holds no generators\. Allowed: another"):
        run("foreign", VAE)
