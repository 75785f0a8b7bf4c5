"""Recording a trained network, against `mlflow.pytorch.log_model`: python -m benchmarks.recording

The two ways take turns in one process and one SQLite store, each time in a new run; the first of each, which pays for
imports, is told apart. MLflow's is called as its documentation shows: with a name and an input example, inside a run.
"""

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.common import turns, write
from kdmodels.experiment import Network
from kdmodels.networks import build

ROUNDS = 5
SHAPE: dict[str, Any] = {"input_shape": (1, 28, 28), "classes": 10, "mean": [0.1307], "std": [0.3081]}


def main() -> None:
    """Measure, print and write the result."""
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.chdir(folder)  # where MLflow's own default puts artifacts
        times = measured(build(Network(mlp=[32]), **SHAPE).eval())
        os.chdir(Path(__file__).parent)
    later = {way: statistics.median(values[1:]) for way, values in times.items()}
    write(
        "recording",
        {
            "seconds, the first apart": times,
            "median of the later": later,
            "mlflow.pytorch.log_model / kdflow": round(later["mlflow.pytorch.log_model"] / later["kdflow"], 1),
        },
    )


def measured(network: nn.Module) -> dict[str, list[float]]:
    """The seconds of every round, by way."""
    import mlflow.pytorch

    from tasks import tracking

    tracking.configure()
    example = torch.rand(2, 1, 28, 28).numpy()

    def ours() -> None:
        run_id = tracking.start("recording", "one", "student")
        with tracking.recording(run_id):
            tracking.log_model(run_id, network, example, metadata={})

    def theirs() -> None:
        with mlflow.start_run():
            mlflow.pytorch.log_model(network, name="model", input_example=example)

    return turns({"kdflow": ours, "mlflow.pytorch.log_model": theirs}, 1 + ROUNDS)


if __name__ == "__main__":
    main()
