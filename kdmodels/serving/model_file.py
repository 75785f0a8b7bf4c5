"""Loading an ONNX file as a function of images. Only onnx, onnxruntime and numpy are needed."""

import errno
import json
import os
import stat
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto

from kdmodels.serving.checks import (
    INPUT,
    OUTPUT,
    RefusedError,
    check_batch,
    check_model,
    first_line,
    image_shape,
    tensor_bytes,
)

FILE_BYTES = 2**31 - 1  # what protobuf can read
LARGEST_BATCH = 256  # images that are run at once
BATCH_BYTES = 2**30  # that all tensors of a batch may take together, unless one image takes more
CLASSES = "kd.classes"  # the metadata key of the names of the classes, a JSON list


class ServedModel:
    """A checked ONNX file in onnxruntime: a function of images (N, C, H, W) in [0, 1] to logits (N, K).

    `input_shape` is (C, H, W). `classes` are the names in the file's metadata.
    """

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        """Check a file and give it to onnxruntime.

        Args:
            threads: of onnxruntime; None: as many as there are cores.

        Raises:
            RefusedError: the file is not one that kdflow serves.
        """
        self.model = ModelProto()
        try:
            self.model.ParseFromString(content)
            check_model(self.model, content)
            self.input_shape = image_shape(self.model.graph)
            self.classes = _classes(self.model)
            self._single = tensor_bytes(self.model, 1)
            check_batch(self.model, 2, self._single)
            more = sum(tensor_bytes(self.model, 2).values()) - sum(self._single.values())  # with each further image
            self._session = onnxruntime.InferenceSession(content, _options(threads), providers=["CPUExecutionProvider"])
        except RefusedError:
            raise
        except Exception as error:  # protobuf, onnx and onnxruntime raise errors of many kinds at a damaged file
            raise RefusedError(f"it is damaged: {first_line(error)}") from error
        self.batch = max(1, min(LARGEST_BATCH, BATCH_BYTES // max(1, more)))
        self._checked = {1, 2}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits (N, K) of float32 images (N, C, H, W)."""
        return np.concatenate([self.run(images[at : at + self.batch]) for at in range(0, len(images), self.batch)])

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of images that are run at once.

        Raises:
            RefusedError: a tensor grows faster than the batch, or onnxruntime fails, as at an index beyond a tensor.
        """
        if len(images) not in self._checked:
            check_batch(self.model, len(images), self._single)
            self._checked.add(len(images))
        try:
            logits: np.ndarray = self._session.run([OUTPUT], {INPUT: images})[0]
        except Exception as error:  # onnxruntime raises errors of many kinds
            raise RefusedError(f"it can't be run: {first_line(error)}") from error
        return logits


def read_file(path: Path) -> bytes:
    """Read a regular file of bounded size; links, pipes and devices are not opened.

    Raises:
        RefusedError: the path is not such a file.
        OSError: there is no file, or no permission to read it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RefusedError("it is a link; allowed: a file") from error
        raise
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise RefusedError("it is not a regular file")
        if about.st_size > FILE_BYTES:
            raise RefusedError(f"it has {about.st_size} bytes (allowed: {FILE_BYTES})")
        with open(handle, "rb", closefd=False) as file:
            return file.read(FILE_BYTES)
    finally:
        os.close(handle)


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    """Return the options of a session; none of them comes from the file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # none: what is wrong is raised
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _classes(model: ModelProto) -> list[str]:
    """Return the names of the classes; none where the metadata name none.

    Raises:
        RefusedError: they are not one text for each logit.
    """
    found = [prop.value for prop in model.metadata_props if prop.key == CLASSES]
    if not found:
        return []
    try:
        classes = json.loads(found[0])
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"its metadata {CLASSES} is not JSON") from error
    count = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes) or len(classes) != count:
        raise RefusedError(f"its metadata {CLASSES} is not a list of {count} names, one for each logit")
    return classes
