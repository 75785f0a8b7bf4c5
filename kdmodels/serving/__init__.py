"""Served models. A served model is an ONNX file that contains only data. It runs without torch and kdflow.

`graph`, `agreement` and `export` write ONNX files and need torch. `checks`, `tensor_sizes` and `model_file` read ONNX
files and do not need torch.
"""

import os

# If this variable is not set when onnxruntime is imported, onnxruntime sends telemetry to Microsoft and writes an id to
# a file below ~/.cache/Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
