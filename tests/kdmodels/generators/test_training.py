"""Training of generators on the digits: the metrics improve, and an interrupted training has the same result."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from kdmodels.data import load_dataset
from kdmodels.data.dataset import Dataset
from kdmodels.experiment import Data
from kdmodels.experiment.generator import DataFreeNetwork
from kdmodels.generators.data_free import convolutions, without_images
from kdmodels.generators.gan import Discriminator, ImageGenerator
from kdmodels.generators.layers import perceptron
from kdmodels.generators.training import (
    DataFreeTrainer,
    GanTrainer,
    Schedule,
    Trainer,
    VaeTrainer,
    train_generator,
)
from kdmodels.generators.vae import Vae
from kdmodels.training import Checkpoints
from kdmodels.training.replica import Replica

SHAPE = (1, 8, 8)


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(Data(source="digits"))


def vae() -> Trainer:
    torch.manual_seed(0)
    return VaeTrainer(Vae(SHAPE, [32], 4), lr=2e-3)


def gan() -> Trainer:
    torch.manual_seed(0)
    return GanTrainer(
        ImageGenerator(SHAPE, perceptron([8, 32, 64]), 8), Discriminator(SHAPE, [32], dropout=0.2), lr=2e-4
    )


def judge() -> nn.Sequential:
    """Return a classifier in train mode, with the layers whose modes differ."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.5), nn.Linear(24, 10)
    )


def data_free(classifier: nn.Module | None = None) -> Trainer:
    torch.manual_seed(0)
    weights = DataFreeNetwork(steps=1)
    network = ImageGenerator(SHAPE, convolutions(SHAPE, 4, 8), 8)
    return DataFreeTrainer(network, classifier or judge(), weights, lr=1e-3)


def train(trainer: Trainer, data: Dataset, epochs: int, **options: object) -> Replica:
    splits = (data.train, data.validation)
    if isinstance(trainer, DataFreeTrainer):
        splits = (without_images(128), without_images(64))
    return train_generator(trainer, Schedule(epochs, 64), *splits, seed=3, **options)  # type: ignore[arg-type]


def test_the_bound_of_a_vae_rises(digits: Dataset) -> None:
    history = train(vae(), digits, 8).history
    assert history[-1]["val/elbo"] > history[0]["val/elbo"] + 5
    for metrics in history:
        for split in ("train", "val"):
            parts = metrics[f"{split}/reconstruction"] + metrics[f"{split}/kl"]
            assert metrics[f"{split}/elbo"] == pytest.approx(-parts, rel=1e-5)


def test_both_networks_of_a_gan_learn(digits: Dataset) -> None:
    replica = train(gan(), digits, 8)
    assert all(torch.isfinite(tensor).all() for tensor in replica.state.values())
    kinds = ("weight", "bias")
    assert set(replica.own) == {f"discriminator.layers.{layer}.{kind}" for layer in (0, 3) for kind in kinds}
    first, last = replica.history[0], replica.history[-1]
    assert first.keys() >= {"train/generator_loss", "train/discriminator_loss", "val/accuracy_on_generated"}
    assert last["val/discriminator_loss"] < first["val/discriminator_loss"]


def test_the_loss_of_a_data_free_generator_falls(digits: Dataset) -> None:
    history = train(data_free(), digits, 8).history
    assert history[-1]["val/generator_loss"] < history[0]["val/generator_loss"] - 0.01
    for metrics in history:
        parts = metrics["val/one_hot"] + 5 * metrics["val/entropy"] + 0.1 * metrics["val/activation"]
        assert metrics["val/generator_loss"] == pytest.approx(parts, rel=1e-5)


def test_a_data_free_generator_changes_nothing_of_its_judge(digits: Dataset) -> None:
    """The judge neither learns, nor gets gradients, nor adapts its batch normalisation, nor drops features."""
    classifier = judge()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    replica = train(data_free(classifier), digits, 2)
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert classifier.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.parameters())
    assert replica.own == {}
    same = train(data_free(classifier.eval()), digits, 2)
    assert same.history == replica.history  # the judge is in eval mode in any case


def test_every_weight_of_a_data_free_generator_gets_a_gradient() -> None:
    trainer = data_free()
    images = without_images(64).batch(torch.arange(64))
    trainer.step(images, torch.zeros(64, dtype=torch.long), torch.Generator().manual_seed(0))
    for parameter in trainer.modules["generator"].parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("new", [vae, gan, data_free])
def test_a_resumed_training_is_bit_identical(digits: Dataset, tmp_path: Path, new: Callable[[], Trainer]) -> None:
    whole = train(new(), digits, 4)

    def stop_at(limit: int) -> Callable[[int, Replica], None]:
        def on_epoch(epoch: int, replica: Replica) -> None:
            if epoch > limit:
                raise StoppedError

        return on_epoch

    def checkpoints() -> Checkpoints:
        return Checkpoints(tmp_path / "checkpoints", "spec", every=0, warn=pytest.fail)

    with pytest.raises(StoppedError):
        train(new(), digits, 4, checkpoints=checkpoints(), on_epoch=stop_at(2))
    resumed = train(new(), digits, 4, checkpoints=checkpoints())
    assert resumed.history == whole.history
    for name, tensor in whole.state.items():
        assert torch.equal(resumed.state[name], tensor)
    assert train(new(), digits, 4, checkpoints=checkpoints()).history == whole.history  # nothing is left to train


def test_a_diverged_training_ends_with_the_last_finite_weights(digits: Dataset) -> None:
    trainer = vae()
    epochs: list[int] = []

    def break_second(epoch: int, replica: Replica) -> None:
        epochs.append(epoch)
        if epoch == 2:
            with torch.no_grad():
                next(trainer.modules["generator"].parameters()).fill_(torch.nan)

    replica = train(trainer, digits, 6, on_epoch=break_second)
    assert (replica.diverged, replica.epoch, epochs) == (3, 2, [1, 2, 3])
    assert "train/elbo" in replica.culprits
    assert all(torch.isfinite(tensor).all() for tensor in replica.state.values())
