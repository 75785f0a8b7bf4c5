"""Compare the served ONNX file with an exported torch program (pt2): python -m benchmarks.serving

Older versions of kdflow served the torch program. The benchmark times `kd predict` on 100 image files. It also times
Python processes that load one of the two files and run it on 100 images. All times are from the start of a process to
its end. The processes alternate.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import turns, write
from kdmodels.experiment import Network
from kdmodels.networks import Description
from kdmodels.serving.graph import fill, graph_of, metadata_of

ROUNDS = 5
IMAGES = 100
NETWORKS = {
    "mlp [32], 28x28": (Network(mlp=[32]), (1, 28, 28)),
    "resnet8x4, 32x32": (Network(name="resnet8x4"), (3, 32, 32)),
}
ONNX = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(["logits"], {"images": np.load(sys.argv[2])})
"""
CHECKED = """
import sys
from pathlib import Path
import numpy as np
from kdmodels.serving.model_file import ServedModel, read_file
ServedModel(read_file(Path(sys.argv[1])))(np.load(sys.argv[2]))
"""
PT2 = """
import sys
import numpy as np
import torch
program = torch.export.load(sys.argv[1]).module()
with torch.no_grad():
    program(torch.from_numpy(np.load(sys.argv[2])))
"""


def main() -> None:
    """Measure, print and write the result."""
    result = {name: measured(network, shape) for name, (network, shape) in NETWORKS.items()}
    write("serving", {"images": IMAGES, "rounds": ROUNDS, **result})


def measured(network: Network, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return the sizes of the two files, and the seconds of each process."""
    from tasks import tracking
    from tasks.tracking.models import log_model

    with tempfile.TemporaryDirectory(prefix="kdflow-") as name:
        folder = Path(name)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        tracking.configure()
        description = Description(
            network=network, input_shape=shape, classes=list("0123456789"), mean=[0.5] * shape[0], std=[0.5] * shape[0]
        )
        module = description.build().eval()
        run_id = tracking.start("serving", "one", "student")
        content = fill(graph_of(description), module.state_dict(), metadata_of(description, run_id))
        images = np.random.default_rng(0).random((IMAGES, *shape), dtype=np.float32)
        log_model(run_id, content, images[:2])
        tracking.set_champion(tracking.register("served", run_id, tags={}, description=""))
        (folder / "model.onnx").write_bytes(content)
        example = (torch.zeros(2, *shape),)
        batch = torch.export.Dim("batch")
        torch.export.save(torch.export.export(module, example, dynamic_shapes=({0: batch},)), folder / "model.pt2")
        np.save(folder / "images.npy", images)
        (folder / "photos").mkdir()
        for index, image in enumerate(images):
            pixels = (image * 255).astype(np.uint8).transpose(1, 2, 0)
            Image.fromarray(pixels.squeeze()).save(folder / "photos" / f"{index:03}.png")
        times = turns(_ways(folder), ROUNDS)
        return {
            "bytes": {kind: (folder / f"model.{kind}").stat().st_size for kind in ("onnx", "pt2")},
            "median seconds": {way: statistics.median(values) for way, values in times.items()},
            "seconds": times,
        }


def _ways(folder: Path) -> dict[str, Callable[[], object]]:
    run = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
    python, images = sys.executable, folder / "images.npy"
    return {
        "kd predict": lambda: run([Path(python).with_name("kd"), "predict", "served", folder / "photos"]),
        "onnx in onnxruntime": lambda: run([python, "-c", ONNX, folder / "model.onnx", images]),
        "onnx, checked as by kdflow": lambda: run([python, "-c", CHECKED, folder / "model.onnx", images]),
        "pt2 in torch": lambda: run([python, "-c", PT2, folder / "model.pt2", images]),
    }


if __name__ == "__main__":
    main()
