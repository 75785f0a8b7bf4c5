"""Training of generators, with checkpoints at the ends of epochs."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.optim import Adam

from kdmodels.data.split import Split
from kdmodels.device import CPU
from kdmodels.experiment.generator import DataFreeNetwork
from kdmodels.generators.data_free import data_free_parts
from kdmodels.generators.gan import Discriminator, ImageGenerator, discriminator_loss, generator_loss
from kdmodels.generators.layers import random_codes
from kdmodels.generators.vae import Vae, elbo_parts
from kdmodels.networks import find_tap
from kdmodels.randomness import generator_for, isolated_rng
from kdmodels.training.batches import batch_sizes, order
from kdmodels.training.checkpoints import Checkpoints
from kdmodels.training.replica import Replica, State

VALIDATION_BATCH = 1000
GAN_BETAS = (0.5, 0.999)  # Radford et al., 2016, section 4: a beta1 of 0.9 makes the training of a GAN unstable


@dataclass(frozen=True)
class Schedule:
    """The number of epochs, and the maximum number of images in a batch."""

    epochs: int
    batch: int


class Trainer(Protocol):
    """The networks and optimizers of one kind of generator, and its training step."""

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks by name. The network `generator` makes images."""

    @property
    def optimizers(self) -> list[Adam]:
        """The optimizers."""

    def step(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Train on one batch, and return the batch's metrics.

        Args:
            images: Images in [0, 1], (B, C, H, W).
            labels: Class indices, (B,).
            generator: CPU generator of the step's noise.
        """

    def validate(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return the metrics of one batch of held-out images. The arguments are those of `step`."""


class VaeTrainer:
    """Trainer of a VAE. It maximises the evidence lower bound (ELBO)."""

    def __init__(self, vae: Vae, lr: float) -> None:
        self._vae = vae
        self.modules: dict[str, nn.Module] = {"generator": vae}
        self.optimizers = [Adam(vae.parameters(), lr=lr)]

    def step(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        """See `Trainer.step`."""
        (optimizer,) = self.optimizers
        optimizer.zero_grad()
        metrics = self._metrics(images, labels, generator)
        (-metrics["elbo"]).backward()
        optimizer.step()
        return {name: value.detach() for name, value in metrics.items()}

    def validate(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        """See `Trainer.validate`."""
        return self._metrics(images, labels, generator)

    def _metrics(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        noise = random_codes(len(images), self._vae.latent, generator).to(images.device)
        parts = elbo_parts(self._vae, images, noise, labels)
        means = {"reconstruction": parts.reconstruction, "kl": parts.kl, "elbo": parts.elbo}
        return {name: values.mean() for name, values in means.items()}


class GanTrainer:
    """Trainer of a GAN. It trains the generator and the discriminator in turn, with one step of each for every batch.

    References:
        Goodfellow et al., "Generative adversarial nets", 2014, algorithm 1 with k = 1.
    """

    def __init__(self, generator: ImageGenerator, discriminator: Discriminator, lr: float) -> None:
        self._generator, self._discriminator = generator, discriminator
        self.modules: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
        self.optimizers = [Adam(network.parameters(), lr=lr, betas=GAN_BETAS) for network in self.modules.values()]

    def step(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        """See `Trainer.step`."""
        of_generator, of_discriminator = self.optimizers
        fake = self._fake(images, labels, generator)
        of_discriminator.zero_grad()
        real_logits = self._discriminator(images, labels)
        fake_logits = self._discriminator(fake.detach(), labels)
        loss = discriminator_loss(real_logits, fake_logits)
        loss.backward()
        of_discriminator.step()
        of_generator.zero_grad()
        loss_of_generator = generator_loss(self._discriminator(fake, labels))
        loss_of_generator.backward()
        of_generator.step()
        return {
            "generator_loss": loss_of_generator.detach(),
            **_discriminator_metrics(loss.detach(), real_logits, fake_logits),
        }

    def validate(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        """See `Trainer.validate`."""
        fake_logits = self._discriminator(self._fake(images, labels, generator), labels)
        real_logits = self._discriminator(images, labels)
        return _discriminator_metrics(discriminator_loss(real_logits, fake_logits), real_logits, fake_logits)

    def _fake(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        codes = random_codes(len(images), self._generator.latent, generator).to(images.device)
        fake: Tensor = self._generator(codes, labels)
        return fake


class DataFreeTrainer:
    """Trainer of a data-free generator, whose images are to look real to a fixed classifier, the judge.

    Args:
        generator: The generator.
        judge: The classifier. It is copied, and the copy stays in eval mode: batch normalisation uses the statistics of
            the images on which the judge was trained.
        weights: The weights of the parts of the loss.
        lr: The learning rate.

    References:
        Chen et al., "Data-free learning of student networks", 2019, section 3.2.
    """

    def __init__(self, generator: ImageGenerator, judge: nn.Module, weights: DataFreeNetwork, lr: float) -> None:
        self._generator, self._weights = generator, weights
        self._judge = deepcopy(judge).eval().requires_grad_(False)
        self._embedding = find_tap(self._judge, "last")
        self.modules: dict[str, nn.Module] = {"generator": generator}
        self.optimizers = [Adam(generator.parameters(), lr=lr)]

    def step(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        """See `Trainer.step`. Only the number and the device of the images are used."""
        (optimizer,) = self.optimizers
        optimizer.zero_grad()
        metrics = self._metrics(images, generator)
        metrics["generator_loss"].backward()
        optimizer.step()
        return {name: value.detach() for name, value in metrics.items()}

    def validate(self, images: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        """See `Trainer.validate`."""
        return self._metrics(images, generator)

    def _metrics(self, images: Tensor, generator: Generator) -> dict[str, Tensor]:
        codes = random_codes(len(images), self._generator.latent, generator).to(images.device)
        judge = self._judge.to(images.device)
        with self._embedding.on(judge) as embeddings:
            logits = judge(self._generator(codes))
        parts, weights = data_free_parts(logits, self._embedding.one(embeddings)), self._weights
        loss = weights.one_hot * parts.one_hot + weights.entropy * parts.entropy + weights.activation * parts.activation
        return {"generator_loss": loss, **parts._asdict()}


def _discriminator_metrics(loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
    """Return the discriminator's loss, and its accuracy on real and on generated images."""
    return {
        "discriminator_loss": loss,
        "accuracy_on_real": (real_logits > 0).float().mean(),
        "accuracy_on_generated": (fake_logits < 0).float().mean(),
    }


def train_generator(  # noqa: PLR0913 - all but five have defaults
    trainer: Trainer,
    schedule: Schedule,
    train: Split,
    validation: Split,
    *,
    seed: int,
    device: torch.device = CPU,
    on_step: Callable[[], None] = lambda: None,
    on_epoch: Callable[[int, Replica], None] = lambda epoch, replica: None,
    checkpoints: Checkpoints | None = None,
) -> Replica:
    """Train a generator, and return its weights after the last epoch with the metrics of every epoch.

    The training ends early if a metric is no longer finite. In this case, `diverged` of the returned replica is the
    number of that epoch, and the weights are those of the previous epoch.

    Args:
        trainer: The networks, which are trained in place.
        schedule: Settings of the training.
        train: The images from which the generator learns.
        validation: Held-out images.
        seed: Seed of the order of the examples and of all noise.
        device: Device of the computation.
        on_step: Function that is called before every step. An exception in this function ends the training.
        on_epoch: Function that is called after every epoch. Its arguments are the number of the epoch, counted from 1,
            and the replica.
        checkpoints: Checkpoints from which to resume, and to which new checkpoints are added. On the CPU, with the same
            number of threads, a resumed training has a bit-identical result.

    Returns:
        A replica. `state` holds the tensors of the network `generator`, and `own` holds the tensors of the other
        networks. The names of metrics start with `train/` or `val/`.
    """
    for module in trainer.modules.values():
        module.to(device)
    replica = Replica(seed)
    snapshot = checkpoints.latest() if checkpoints else None
    if snapshot:
        (replica,), (tensors,) = snapshot.replicas, snapshot.stacks
        _restore(trainer, tensors)
    for epoch in range(len(replica.history) + 1, schedule.epochs + 1):
        if replica.diverged:
            break
        batches = _batches(train, schedule, seed, epoch, on_step)
        metrics = _train_epoch(trainer, train, batches, seed, epoch, device)
        metrics |= _validated(trainer, validation, seed, device)
        replica.history.append(metrics)
        if all(torch.tensor(list(metrics.values())).isfinite()):
            replica.epoch = epoch
            replica.state, replica.own = _weights(trainer)
        else:
            replica.diverged = epoch
            replica.culprits = [name for name, value in metrics.items() if not torch.tensor(value).isfinite()]
        on_epoch(epoch, replica)
        if checkpoints:
            checkpoints.keep(epoch, [replica], [_tensors(trainer)])
    return replica


def _batches(train: Split, schedule: Schedule, seed: int, epoch: int, on_step: Callable[[], None]) -> Iterator[Tensor]:
    """Yield the rows of each batch of an epoch. Before each batch, call `on_step`."""
    for rows in order(len(train), seed, epoch).split(batch_sizes(len(train), schedule.batch)):
        on_step()
        yield rows


def _train_epoch(
    trainer: Trainer, train: Split, batches: Iterator[Tensor], seed: int, epoch: int, device: torch.device
) -> dict[str, float]:
    """Train on all batches of an epoch, and return the mean of each metric over all examples."""
    noise = generator_for(seed, "noise", epoch)
    for module in trainer.modules.values():
        module.train()
    totals: dict[str, Tensor] = {}
    with isolated_rng(generator_for(seed, "dropout", epoch), device):
        for rows in batches:
            metrics = trainer.step(train.batch(rows).to(device), train.labels[rows].to(device), noise)
            for name, value in metrics.items():
                totals[name] = totals.get(name, torch.zeros((), device=device)) + value * len(rows)
    return {f"train/{name}": total.item() / len(train) for name, total in totals.items()}


@torch.no_grad()
def _validated(trainer: Trainer, validation: Split, seed: int, device: torch.device) -> dict[str, float]:
    """Return the metrics of the held-out images. The noise is the same in every epoch."""
    noise = generator_for(seed, "validation noise")
    for module in trainer.modules.values():
        module.eval()
    totals: dict[str, float] = {}
    for rows in torch.arange(len(validation)).split(VALIDATION_BATCH):
        images, labels = validation.batch(rows).to(device), validation.labels[rows].to(device)
        for name, value in trainer.validate(images, labels, noise).items():
            totals[name] = totals.get(name, 0.0) + value.item() * len(rows)
    return {f"val/{name}": total / len(validation) for name, total in totals.items()}


def _weights(trainer: Trainer) -> tuple[State, State]:
    """Return copies of the tensors of the network `generator`, and of the other networks, on the CPU."""
    state: State = {}
    own: State = {}
    for module_name, module in trainer.modules.items():
        for name, tensor in module.state_dict().items():
            copy = tensor.detach().cpu().clone()
            if module_name == "generator":
                state[name] = copy
            else:
                own[f"{module_name}.{name}"] = copy
    return state, own


def _named_tensors(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor that a training step changes, with its name in a checkpoint."""
    for module_name, module in trainer.modules.items():
        for name, tensor in module.state_dict().items():
            yield f"{module_name}.{name}", tensor
    for number, optimizer in enumerate(trainer.optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for name, tensor in state.items():
                yield f"optimizer.{number}.{index}.{name}", tensor


def _tensors(trainer: Trainer) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in _named_tensors(trainer)}


def _restore(trainer: Trainer, tensors: State) -> None:
    """Set the networks and the optimizers to the tensors of a checkpoint."""
    for module_name, module in trainer.modules.items():
        module.load_state_dict({name: tensors[f"{module_name}.{name}"] for name in module.state_dict()})
    for number, optimizer in enumerate(trainer.optimizers):
        content = optimizer.state_dict()
        prefix = f"optimizer.{number}."
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                index, part = name.removeprefix(prefix).split(".")
                content["state"].setdefault(int(index), {})[part] = tensor
        optimizer.load_state_dict(content)
