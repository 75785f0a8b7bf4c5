"""`kd run` of a generator through its flow: training, measures, pictures, reuse and cancellation."""

import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from prefect.exceptions import CancelledRun

from flows.generate import generate, plan_only
from kdmodels.errors import UserError
from kdmodels.experiment import GeneratorExperiment
from kdmodels.generators.samples import sample
from kdmodels.randomness import generator_for
from tasks import cancellation, tracking
from tasks.generator_results import PICTURES, stored_generator
from tasks.references import GeneratorOutcome

MADE: dict[str, Any] = {
    "name": "made",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "judge": {"network": {"mlp": [32]}, "epochs": 4},
    "generator": {"vae": {"hidden": [32], "latent": 4}, "epochs": 5, "batch": 64},
}
DATA_FREE = {"data_free": {"channels": 8, "latent": 8, "steps": 6}, "epochs": 3, "batch": 32}
GAN = {"gan": {"hidden": [32], "latent": 8, "discriminator": [32]}, "epochs": 2, "conditional": True}


def run(**changes: Any) -> GeneratorOutcome:
    return generate(GeneratorExperiment.model_validate(MADE | changes))


@pytest.fixture(scope="module")
def first(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[GeneratorOutcome]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("made")))
        yield run()


def pictures(run_id: str) -> dict[str, tuple[int, int]]:
    """Return the size of each picture of a run."""
    folder = tracking.artifact(run_id, PICTURES)
    return {path.name: Image.open(BytesIO(path.read_bytes())).size for path in sorted(folder.iterdir())}


def test_a_judge_and_a_generator_are_trained_and_measured(first: GeneratorOutcome) -> None:
    kinds = {run.kind: run for run in tracking.runs()}
    assert set(kinds) == {"generation", "teacher", "generator"}
    made = kinds["generator"]
    assert {run.run_id for run in tracking.children(first.parent_run_id)} == {made.run_id, first.judge.run_id}
    assert (made.run_id, made.status, made.experiment) == (first.generator.run_id, "FINISHED", "made")
    metrics = first.generator.metrics
    assert metrics["epoch"] == 5
    assert metrics["quality/log_likelihood_bound"] > metrics["val/elbo"]
    assert 0 <= metrics["quality/precision"] <= 1
    assert 0 <= metrics["quality/recall"] <= 1
    assert metrics["quality/frechet_distance"] > 0
    assert "quality/accuracy" not in metrics  # only a conditional generator is asked for a class
    assert not [name for name in metrics if name.startswith("test")]


def test_pictures_show_samples_during_and_after_the_training(first: GeneratorOutcome) -> None:
    sizes = pictures(first.generator.run_id)
    during = [f"samples-epoch-{epoch:04}.png" for epoch in range(1, 5)]
    assert list(sizes) == ["codes.png", "interpolations.png", "reconstructions.png", *during, "samples-last.png"]
    assert sizes["samples-last.png"] == (2 * (10 * 9 + 1), 2 * (6 * 9 + 1))


def test_the_same_experiment_is_reused_and_other_epochs_keep_the_judge(first: GeneratorOutcome) -> None:
    again = run()
    assert (again.generator.run_id, again.generator.reused, again.judge.reused) == (first.generator.run_id, True, True)
    longer = MADE | {"generator": MADE["generator"] | {"epochs": 6}}
    plan = plan_only(GeneratorExperiment.model_validate(longer))
    assert (plan.judge.action, plan.generator.action) == ("reuse", "train")
    assert plan.generator.reason == "generator.epochs: 5 -> 6"


def test_the_stored_generator_makes_images(first: GeneratorOutcome) -> None:
    network, _ = stored_generator(first.generator.run_id)
    images = sample(network, torch.zeros(3, dtype=torch.long), generator_for(0, "test"))
    assert images.shape == (3, 1, 8, 8)


@pytest.mark.usefixtures("first")
def test_a_conditional_gan_is_asked_for_classes() -> None:
    outcome = run(name="asked", generator=GAN)
    metrics = outcome.generator.metrics
    assert 0 <= metrics["quality/accuracy"] <= 1
    assert {"train/generator_loss", "train/discriminator_loss", "val/accuracy_on_real"} <= metrics.keys()
    assert "quality/log_likelihood_bound" not in metrics
    names = ["interpolations.png", "samples-epoch-0001.png", "samples-last.png"]
    assert list(pictures(outcome.generator.run_id)) == names


@pytest.mark.usefixtures("first")
def test_a_data_free_generator_is_the_same_whatever_the_images_are(tmp_path: Path) -> None:
    """Only the judge knows real images. The images of the experiment are noise, and other noise."""
    judge = MADE["judge"] | {"data": {"source": "digits"}, "normalise": {"mean": [0.3], "std": [0.4]}}
    outcomes = []
    for seed in (0, 1):
        images = np.random.default_rng(seed).integers(0, 256, (400, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / f"{seed}.npz", images=images, labels=np.arange(400) % 10)
        data = {"source": str(tmp_path / f"{seed}.npz")}
        outcomes.append(run(name=f"blind-{seed}", data=data, judge=judge, generator=DATA_FREE))
    one, other = (outcome.generator for outcome in outcomes)
    assert one.run_id != other.run_id
    weights = [stored_generator(each.run_id)[0].state_dict() for each in (one, other)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
    terms = ("generator_loss", "one_hot", "entropy", "activation")
    losses = [
        [each.metrics[f"{split}/{term}"] for split in ("train", "val") for term in terms] for each in (one, other)
    ]
    assert losses[0] == losses[1]
    assert one.metrics["quality/frechet_distance"] != other.metrics["quality/frechet_distance"]  # measured on images


@pytest.mark.usefixtures("first")
def test_mode_collapse_is_a_warning_of_the_outcome_and_of_the_run() -> None:
    barely = {"gan": {"hidden": [4], "latent": 2, "discriminator": [64]}, "epochs": 1, "lr": 0.1}
    outcome = run(name="collapsed", generator=barely)
    (warning,) = outcome.generator.warnings
    assert warning.startswith("mode collapse: ")
    assert tracking.get(outcome.generator.run_id).tags["kd.warning"] == warning
    assert run(name="collapsed", generator=barely).generator.warnings == [warning]


@pytest.mark.usefixtures("first")
def test_errors_of_the_judge_name_its_field(tmp_path: Path) -> None:
    absent = tmp_path / "teacher.pt"
    with pytest.raises(UserError, match=rf"^judge\.checkpoint: .*{absent}"):
        run(name="absent", judge={"network": {"mlp": [32]}, "checkpoint": str(absent)})
    with pytest.raises(UserError, match=r"^judge\.data\.source: .*none\.npz"):
        run(name="absent", judge={"network": {"mlp": [32]}, "epochs": 1, "data": str(tmp_path / "none.npz")})


@pytest.mark.usefixtures("first")
def test_a_cancelled_generation_continues_from_its_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("KD_CHECKPOINT_SECONDS", "0")
    long = {"generator": MADE["generator"] | {"epochs": 2000}, "name": "cancelled"}
    stopped: list[bool] = []

    def cancel_soon() -> None:
        begun: list[tracking.Run] = []
        while not begun:
            time.sleep(0.1)
            training = [run for run in tracking.running("cancelled") if run.kind == "generator"]
            begun = [run for run in training if run.metrics.get("epoch", 0) >= 1]
        stopped.append(cancellation.cancel(cancellation.running_run_of(begun[0].run_id)))

    canceller = threading.Thread(target=cancel_soon, daemon=True)
    canceller.start()
    with pytest.raises(CancelledRun, match=r"^cancelled by "):
        run(**long)
    canceller.join()
    assert stopped == [True]
    statuses = {each.kind: each.status for each in tracking.runs("cancelled")}
    assert statuses == {"generation": "KILLED", "generator": "KILLED"}  # the judge is that of the other tests
    plan = plan_only(GeneratorExperiment.model_validate(MADE | long))
    assert (plan.judge.action, plan.generator.action) == ("reuse", "resume")
