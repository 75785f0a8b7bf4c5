"""Record a trained network with kdflow and with `mlflow.pytorch.log_model`: python -m benchmarks.recording

The two ways alternate in one process and one SQLite store. Each recording is a new run. The first round includes the
imports, so the medians leave it out. MLflow's function is called as its documentation shows: inside a run, with a name
and an input example.
"""

import os
import statistics
import tempfile
from pathlib import Path

import torch

from benchmarks.common import turns, write
from kdmodels.data import Split
from kdmodels.experiment import Network
from kdmodels.networks import Description
from kdmodels.serving.agreement import served_file
from kdmodels.serving.graph import metadata_of

ROUNDS = 5


def main() -> None:
    """Measure, print and write the result."""
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"  # no graph is cached yet
        os.chdir(folder)  # MLflow's default puts artifacts in the working folder
        times = measured(
            Description(
                network=Network(mlp=[32]),
                input_shape=(1, 28, 28),
                classes=[str(digit) for digit in range(10)],
                mean=[0.1307],
                std=[0.3081],
            )
        )
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


def measured(description: Description) -> dict[str, list[float]]:
    """Return the seconds of each way in each round, by the name of the way."""
    import mlflow.pytorch

    from tasks import tracking
    from tasks.tracking.models import log_model

    tracking.configure()
    network = description.build().eval()
    images = torch.rand(5000, 1, 28, 28)
    split = Split(images, torch.zeros(5000, dtype=torch.int64))

    def with_kdflow() -> None:
        """Record the network as a student's run does: fill the graph, check the file on 512 images, and store it."""
        run_id = tracking.start("recording", "one", "student")
        with tracking.recording(run_id):
            content, _ = served_file(description, network, metadata_of(description, run_id), split)
            log_model(run_id, content, images[:2].numpy())

    def with_mlflow() -> None:
        with mlflow.start_run():
            mlflow.pytorch.log_model(network, name="model", input_example=images[:2].numpy())

    return turns({"kdflow": with_kdflow, "mlflow.pytorch.log_model": with_mlflow}, 1 + ROUNDS)


if __name__ == "__main__":
    main()
