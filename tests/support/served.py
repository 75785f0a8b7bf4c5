"""Export any module to ONNX, for tests that need a served model without training."""

import json

from torch import nn

from kdmodels.serving.graph import export_graph, fill
from kdmodels.serving.model_file import CLASSES


def onnx_of(module: nn.Module, input_shape: tuple[int, int, int], classes: list[str] | None = None) -> bytes:
    """Return the ONNX file of a module. None: the file names no classes."""
    metadata = {} if classes is None else {CLASSES: json.dumps(classes)}
    return fill(export_graph(module.eval(), input_shape), module.state_dict(), metadata)
