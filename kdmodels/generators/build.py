"""Functions that build a generator and its trainer from an experiment, and that store and load a generator."""

from math import prod
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import nn

from kdmodels.data import Split
from kdmodels.experiment.generator import DataFreeNetwork, GanNetwork, Generator, VaeNetwork
from kdmodels.generators.data_free import convolutions, without_images
from kdmodels.generators.gan import Discriminator, ImageGenerator
from kdmodels.generators.layers import perceptron
from kdmodels.generators.training import DataFreeTrainer, GanTrainer, Trainer, VaeTrainer
from kdmodels.generators.vae import Vae
from kdmodels.randomness import generator_for, isolated_rng
from kdmodels.training.replica import State

WEIGHTS, DESCRIPTION = "generator.safetensors", "generator.json"


class GeneratorDescription(BaseModel):
    """Everything that is needed to rebuild a generator, except its weights.

    Attributes:
        generator: The description of the generator, as in the experiment file.
        input_shape: The shape (C, H, W) of an image.
        classes: The class names of the data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: Generator
    input_shape: tuple[int, int, int]
    classes: list[str]

    @property
    def conditions(self) -> int:
        """The number of classes, if the class is an input of the generator. 0 if the generator is not conditional."""
        return len(self.classes) if self.generator.conditional else 0

    def build(self) -> Vae | ImageGenerator:
        """Return a new network. Its initial weights are drawn from torch's global generator."""
        networks, shape, classes = self.generator.networks, self.input_shape, self.conditions
        match networks:
            case VaeNetwork():
                return Vae(shape, networks.hidden, networks.latent, classes)
            case GanNetwork():
                layers = perceptron([networks.latent + classes, *networks.hidden, prod(shape)])
            case DataFreeNetwork():
                layers = convolutions(shape, networks.channels, networks.latent)
        return ImageGenerator(shape, layers, networks.latent, classes)


def build_trainer(description: GeneratorDescription, judge: nn.Module, seed: int) -> Trainer:
    """Return a trainer with new networks, whose initial weights depend only on the seed.

    Args:
        judge: The classifier from which a data-free generator learns. It is not changed.
    """
    lr, networks = description.generator.learning_rate, description.generator.networks
    with isolated_rng(generator_for(seed, "initial weights")):
        network = description.build()
        if isinstance(network, Vae):
            return VaeTrainer(network, lr)
        if isinstance(networks, DataFreeNetwork):
            return DataFreeTrainer(network, judge, networks, lr)
        assert isinstance(networks, GanNetwork)
        discriminator = Discriminator(
            description.input_shape, networks.discriminator, description.conditions, dropout=networks.dropout
        )
        return GanTrainer(network, discriminator, lr)


def examples(generator: Generator, train: Split, validation: Split) -> tuple[Split, Split]:
    """Return the examples on which a generator is trained and validated.

    For a data-free generator, the examples have no images. No image of the data can therefore affect the training.
    """
    if generator.data_free is None:
        return train, validation
    return without_images(generator.data_free.steps * generator.batch), without_images(generator.batch)


def save_generator(folder: Path, description: GeneratorDescription, state: State) -> None:
    """Write a generator to a folder: its weights as safetensors, and its description as JSON."""
    save_file(state, folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(description.model_dump_json(), encoding="utf-8")


def load_generator(folder: Path) -> tuple[Vae | ImageGenerator, GeneratorDescription]:
    """Return a stored generator in eval mode, and its description. Nothing in the folder runs as code.

    Raises:
        ValueError: A file is damaged, or the weights do not fit the description.
    """
    description = GeneratorDescription.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    network = description.build()
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval(), description
