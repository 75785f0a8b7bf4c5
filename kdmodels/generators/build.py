"""Functions that build a generator and its trainer from an experiment, and that store and load a generator."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file

from kdmodels.experiment.generator import GanNetwork, Generator
from kdmodels.generators.gan import Discriminator, ImageGenerator
from kdmodels.generators.training import GanTrainer, Trainer, VaeTrainer
from kdmodels.generators.vae import Vae
from kdmodels.randomness import generator_for, isolated_rng
from kdmodels.training.replica import State

WEIGHTS, DESCRIPTION = "generator.safetensors", "generator.json"


class GeneratorDescription(BaseModel):
    """Everything that is needed to rebuild a generator, except its weights.

    Attributes:
        generator: The generator, as in the experiment file.
        input_shape: The shape (C, H, W) of an image.
        classes: The class names of the data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: Generator
    input_shape: tuple[int, int, int]
    classes: list[str]

    @property
    def conditions(self) -> int:
        """The number of classes that are an input of the generator. 0 if the generator is not conditional."""
        return len(self.classes) if self.generator.conditional else 0

    def build(self) -> Vae | ImageGenerator:
        """Return a new network. Its initial weights are drawn from torch's global generator."""
        kind = Vae if self.generator.vae else ImageGenerator
        networks = self.generator.networks
        return kind(self.input_shape, networks.hidden, networks.latent, self.conditions)


def build_trainer(description: GeneratorDescription, seed: int) -> Trainer:
    """Return a trainer with new networks, whose initial weights depend only on the seed."""
    lr = description.generator.learning_rate
    with isolated_rng(generator_for(seed, "initial weights")):
        network = description.build()
        if isinstance(network, Vae):
            return VaeTrainer(network, lr)
        gan = description.generator.networks
        assert isinstance(gan, GanNetwork)
        discriminator = Discriminator(
            description.input_shape, gan.discriminator, description.conditions, dropout=gan.dropout
        )
        return GanTrainer(network, discriminator, lr)


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
