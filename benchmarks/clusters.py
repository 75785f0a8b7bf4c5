"""Compare the runners on many small students: python -m benchmarks.clusters [STUDENTS [KIND ...]]

Each run is `kd run` on the digits with a new store. It trains a grid of temperatures and the control, with one seed
each, in two workers. The runners take turns on the same machine.

`start` is the time that belongs to no stage: imports, servers, and the cluster. `each` is what a student costs beyond
its training: the time of the stage "students", times the workers, divided by the students, less the mean time of a
training. The workers of a cluster import everything while the teacher and the first students are trained, so a part of
the imports is in `each`. `runs` counts the finished runs of students in the store, and `names` their different names.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import write
from tasks import tracking

STUDENTS, WORKERS, KINDS = 200, 2, ("process", "ray", "dask")


def experiment(students: int, kind: str) -> dict[str, Any]:
    """Return an experiment with this number of students. One of them is the control."""
    return {
        "name": "clusters",
        "data": "digits",
        "threads": 1,
        "teacher": {"network": {"mlp": [32]}, "epochs": 20},
        "student": {"network": {"mlp": [8]}, "epochs": 10},
        "variants": ["hard-labels", {"kd": {"temperature": [1 + number / 100 for number in range(1, students)]}}],
        "runner": {"kind": kind, "workers": WORKERS},
    }


def run(students: int, kind: str, folder: Path) -> dict[str, float]:
    """Run one experiment, and return the figures that the module's docstring describes."""
    path = folder / f"{kind}.yaml"
    path.write_text(json.dumps(experiment(students, kind)))  # JSON is YAML
    store = f"sqlite:///{folder}/{kind}/mlflow.db"
    places = {"PREFECT_HOME": f"{folder}/prefect", "XDG_CACHE_HOME": f"{folder}/cache", "MLFLOW_TRACKING_URI": store}
    command = [str(Path(sys.executable).with_name("kd")), "run", str(path), "--json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | places, text=True, check=True)
    seconds = json.loads(done.stdout)["seconds"]
    os.environ["MLFLOW_TRACKING_URI"] = store
    tracking.configure()
    trained = tracking.runs(kind="student", limit=students + 1)
    training = statistics.mean(student.metrics["seconds/training"] for student in trained)
    stages = sum(spent for stage, spent in seconds.items() if stage not in ("total", "start"))
    return {
        "total": round(seconds["total"], 1),
        "start": round(seconds["total"] - stages, 1),
        "students": round(seconds["students"], 1),
        "training": round(training, 2),
        "each": round(seconds["students"] * WORKERS / students - training, 2),
        "runs": len(trained),
        "names": len({student.name for student in trained}),
    }


def main(students: str = str(STUDENTS), *kinds: str) -> None:
    """Measure, print and write the result."""
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        write("clusters", {kind: run(int(students), kind, Path(folder)) for kind in kinds or KINDS})


if __name__ == "__main__":
    main(*sys.argv[1:])
