"""Loading of ONNX files. This module needs only onnx, onnxruntime and numpy."""

import errno
import json
import os
import stat
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto

from kdmodels.serving.checks import CLASSIFIER, Signature, check_batch, check_model
from kdmodels.serving.refusal import RefusedError, first_line
from kdmodels.serving.tensor_sizes import INPUT, fixed_shape, image_shape, tensor_bytes

FILE_BYTES = 2**31 - 1  # the largest file that protobuf reads
LARGEST_BATCH = 256  # maximum number of images per batch
BATCH_BYTES = 2**30  # maximum total size of all tensors of a batch, unless a single image needs more
CLASSES = "kd.classes"  # metadata key for a JSON list of the class names


class ServedFile:
    """A checked ONNX file that is loaded into onnxruntime.

    Attributes:
        model: The parsed file.
        batch: The maximum number of examples per batch.
    """

    def __init__(self, content: bytes, signatures: Sequence[Signature], threads: int | None = None) -> None:
        """Check an ONNX file, and load the file into onnxruntime.

        Args:
            content: The content of the file.
            signatures: The allowed inputs and outputs of the file, see `check_model`.
            threads: The number of threads that onnxruntime uses. If None, onnxruntime uses one thread per core.

        Raises:
            RefusedError: The file is damaged or breaks a rule of `kdmodels.serving.checks`.
        """
        self.model = ModelProto()
        try:
            self.model.ParseFromString(content)
            check_model(self.model, content, signatures)
            self._describe()
            self._single = tensor_bytes(self.model, 1)
            check_batch(self.model, 2, self._single)
            # the number of bytes that each additional example needs
            per_example = sum(tensor_bytes(self.model, 2).values()) - sum(self._single.values())
            self._session = onnxruntime.InferenceSession(content, _options(threads), providers=["CPUExecutionProvider"])
        except RefusedError:
            raise
        except Exception as error:  # a damaged file raises errors of many types
            raise RefusedError(f"the file is damaged: {first_line(error)}") from error
        self.batch = max(1, min(LARGEST_BATCH, BATCH_BYTES // max(1, per_example)))
        self._checked = {1, 2}

    def _describe(self) -> None:
        """Set the attributes of a subclass from the checked graph. Called before onnxruntime reads the file."""

    def compute(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the output for the inputs, (N, ...), computed in batches of at most `batch` examples.

        Args:
            inputs: The inputs by name, float32, (N, ...) each.
        """
        count = len(next(iter(inputs.values())))
        return np.concatenate(
            [
                self.compute_batch({name: values[start : start + self.batch] for name, values in inputs.items()})
                for start in range(0, count, self.batch)
            ]
        )

    def compute_batch(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the output for the inputs, computed in a single batch.

        Args:
            inputs: As for `compute`.

        Raises:
            RefusedError: A tensor grows faster than the batch, or onnxruntime fails, for example because an index is
                out of bounds.
        """
        count = len(next(iter(inputs.values())))
        if count not in self._checked:
            check_batch(self.model, count, self._single)
            self._checked.add(count)
        try:
            output: np.ndarray = self._session.run([self.model.graph.output[0].name], dict(inputs))[0]
        except Exception as error:  # onnxruntime raises errors of many types
            raise RefusedError(f"the model can't be run: {first_line(error)}") from error
        return output


class ServedModel(ServedFile):
    """A checked ONNX file of a classifier: a function from images (N, C, H, W) in [0, 1] to logits (N, K).

    Attributes:
        input_shape: The shape (C, H, W) of an image.
        classes: The class names from the metadata of the file. If the metadata contain no class names, the list is
            empty.
    """

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        """See `ServedFile`."""
        super().__init__(content, CLASSIFIER, threads)

    def _describe(self) -> None:
        self.input_shape = image_shape(self.model.graph.input[0])
        self.classes = class_names(self.model, *fixed_shape(self.model.graph.output[0]))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits (N, K) of float32 images (N, C, H, W), computed in batches of at most `batch` images.

        Warn if a pixel is not in [0, 1], because the network normalises the images itself.
        """
        low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 1.0)
        if not 0 <= low <= high <= 1:
            warnings.warn(f"the images have pixels from {low:g} to {high:g}. The model expects [0, 1]", stacklevel=2)
        return self.compute({INPUT: images})

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return logits (N, K) of float32 images (N, C, H, W), computed in a single batch. See `compute_batch`."""
        return self.compute_batch({INPUT: images})


def read_file(path: Path) -> bytes:
    """Read a regular file. Links, pipes, devices, and files larger than `FILE_BYTES` are refused.

    Raises:
        RefusedError: The path does not name a regular file, or the file is too large.
        OSError: The file does not exist or is not readable.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RefusedError("the file is a link. Allowed: a regular file") from error
        raise
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError("the file is not a regular file")
        if status.st_size > FILE_BYTES:
            raise RefusedError(f"the file has {status.st_size} bytes. Allowed: at most {FILE_BYTES}")
        with open(handle, "rb", closefd=False) as file:
            return file.read(FILE_BYTES)
    finally:
        os.close(handle)


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    """Return the options of an onnxruntime session. No option is read from the ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # log nothing, because errors are raised
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def class_names(model: ModelProto, count: int) -> list[str]:
    """Return the class names in the metadata of a model. If there are none, return an empty list.

    Args:
        model: The model.
        count: The number of classes that the model has.

    Raises:
        RefusedError: The metadata entry is not a JSON list with one name per class.
    """
    values = [prop.value for prop in model.metadata_props if prop.key == CLASSES]
    if not values:
        return []
    try:
        classes = json.loads(values[0])
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the metadata entry {CLASSES} is not JSON") from error
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes) or len(classes) != count:
        raise RefusedError(f"the metadata entry {CLASSES} is not a list of {count} names, one per class")
    return classes
