"""Loading of the ONNX files of generators. This module needs only onnx, onnxruntime and numpy."""

from hashlib import sha256

import numpy as np
from onnx import ModelProto

from kdmodels.serving.checks import GENERATOR
from kdmodels.serving.model_file import ServedFile, class_names
from kdmodels.serving.tensor_sizes import CLASS, CODES, fixed_shape, image_shape


class ServedGenerator(ServedFile):
    """A checked ONNX file of a generator: a function from latent codes to images in [0, 1].

    Attributes:
        latent: The size of a latent code.
        image_shape: The shape (C, H, W) of an image.
        conditional: Whether the class of an image is an input.
        classes: The class names of a conditional generator. If the metadata of the file contain no class names, or the
            generator is not conditional, the list is empty.
    """

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        """See `ServedFile`."""
        super().__init__(content, GENERATOR, threads)

    def _describe(self) -> None:
        sizes = {value.name: fixed_shape(value)[0] for value in self.model.graph.input}
        self.latent, self._count = sizes[CODES], sizes.get(CLASS, 0)
        self.image_shape = image_shape(self.model.graph.output[0])
        self.conditional = self._count > 0
        self.classes = class_names(self.model, self._count) if self.conditional else []

    def __call__(self, codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return one image for each code, (N, C, H, W) float32 in [0, 1].

        Args:
            codes: Codes from the standard normal distribution, (N, latent) float32.
            labels: Class indices, (N,). Only a conditional generator uses them.
        """
        one_hot = np.eye(self._count, dtype=np.float32)
        return self.compute({CODES: codes} | ({CLASS: one_hot[labels]} if self.conditional else {}))

    def sample(self, labels: np.ndarray, seed: int) -> np.ndarray:
        """Return one image for each label, (N, C, H, W) float32 in [0, 1]. The codes depend only on the seed.

        Args:
            labels: Class indices, (N,). For an unconditional generator, only the number of labels matters.
            seed: The seed of the codes. If more images are requested with the same seed, the first codes are the same.
        """
        codes = np.random.default_rng(seed).standard_normal((len(labels), self.latent), dtype=np.float32)
        return self(codes, labels)

    @property
    def digest(self) -> str:
        """The digest of the graph and its weights. The metadata of the file, such as the id of a run, do not count."""
        model = ModelProto()
        model.CopyFrom(self.model)
        del model.metadata_props[:]
        return sha256(model.SerializeToString(deterministic=True)).hexdigest()
