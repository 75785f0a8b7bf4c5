"""The served model: one ONNX file, data only, that needs neither torch nor kdflow to run.

`graph` makes such files and needs torch. `checks`, `model_file` and `costs` read them and need no torch.
"""
