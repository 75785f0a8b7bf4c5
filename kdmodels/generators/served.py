"""Export of generators to ONNX files, which make images from codes without torch."""

import json
from importlib.metadata import version

import torch
from torch import Tensor, nn

from kdmodels.errors import UserError
from kdmodels.generators.build import GeneratorDescription
from kdmodels.generators.gan import ImageGenerator
from kdmodels.generators.layers import random_codes
from kdmodels.generators.vae import Vae
from kdmodels.randomness import generator_for
from kdmodels.serving.generator_file import ServedGenerator
from kdmodels.serving.graph import fill, graph_between
from kdmodels.serving.model_file import CLASSES
from kdmodels.serving.tensor_sizes import CLASS, CODES, IMAGES

COMPARED = 256  # number of images on which the file and the network are compared
TOLERANCE = 1e-4  # largest allowed difference between two pixels in [0, 1]


class Decoder(nn.Module):
    """The part of a generator that is served: a function from codes and one-hot classes to images.

    Args:
        network: The generator. Its weights are shared.
    """

    def __init__(self, network: Vae | ImageGenerator) -> None:
        super().__init__()
        self.layers = network.decoder if isinstance(network, Vae) else network.layers
        self._input_shape, self._pixels = network.input_shape, network.pixels

    def forward(self, codes: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images in [0, 1], (B, C, H, W), for codes, (B, D), and one-hot classes, (B, K)."""
        inputs = codes if classes is None else torch.cat([codes, classes], dim=1)
        return self._pixels(self.layers(inputs)).unflatten(1, self._input_shape)


def served_file(description: GeneratorDescription, network: Vae | ImageGenerator, run_id: str) -> bytes:
    """Write a trained generator as an ONNX file in memory.

    Args:
        description: The description of the generator.
        network: The generator in eval mode, on the CPU.
        run_id: The id of the run that trained the generator. It is stored in the file.

    Raises:
        UserError: The images of the file differ from those of the network.
    """
    decoder = Decoder(network).eval()
    examples = {CODES: torch.zeros(2, network.latent)}
    if network.classes:
        examples[CLASS] = torch.zeros(2, network.classes)
    content = fill(graph_between(examples, IMAGES, decoder), decoder.state_dict(), _metadata(description, run_id))
    difference = _largest_difference(network, ServedGenerator(content))
    if not difference <= TOLERANCE:  # also true if the difference is NaN
        raise UserError(
            f"the ONNX file does not make the images of the trained generator: pixels differ by {difference:.3g}. "
            f"Allowed: {TOLERANCE:g}"
        )
    return content


@torch.no_grad()
def _largest_difference(network: Vae | ImageGenerator, served: ServedGenerator) -> float:
    """Return the largest difference between a pixel of the file's images and the same pixel of the network's images."""
    codes = random_codes(COMPARED, network.latent, generator_for(0, "served"))
    labels = torch.arange(COMPARED) % max(1, network.classes)
    images = torch.from_numpy(served(codes.numpy(), labels.numpy()))
    return (images - network(codes, labels)).abs().max().item()


def _metadata(description: GeneratorDescription, run_id: str) -> dict[str, str]:
    """Return texts that describe a generator, by key, for users who have only the ONNX file."""
    channels, height, width = description.input_shape
    size = description.generator.networks.latent
    return {
        **({CLASSES: json.dumps(description.classes)} if description.conditions else {}),
        "kd.input": f"float32 codes (N, {size}) from the standard normal distribution"
        + (f"; float32 one-hot class (N, {description.conditions})" if description.conditions else ""),
        "kd.output": f"float32 images (N, {channels}, {height}, {width}); {'RGB' if channels == 3 else 'grey'}",
        "kd.value_range": "[0, 1]",
        "kd.version": version("kdflow"),
        "kd.run_id": run_id,
    }
