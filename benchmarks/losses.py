"""Compare every preset on real data: python -m benchmarks.losses digits|mnist [--tuned]

The benchmark runs `kd run NAME-losses` with its own store, and writes the leaderboard on the validation split to
benchmarks/results/NAME-losses.json. With --tuned, every variant gets 12 trials, and the file is NAME-losses-tuned.json.

For each variant, the leaderboard holds the mean accuracy with intervals over seeds and over examples, and the
difference from the control. It also holds tests against the control and the best variant, and groups of variants that
do not differ significantly.
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from kdmodels.report.tables import FIGURES

COLUMNS = ["rank", "variant", *FIGURES, "group", "parameters", "status"]


def main(name: str, *, tuned: bool) -> int:
    """Run `kd`, write the result, and return the exit code of `kd`."""
    command = ["kd", "run", f"{name}-losses", "--json", *(["--set", "tune.trials=12"] if tuned else [])]
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        binary = Path(sys.executable).with_name("kd")
        done = subprocess.run([binary, *command[1:]], stdout=subprocess.PIPE, env=environment, text=True, check=False)
        if done.returncode:
            return done.returncode
        csv = subprocess.check_output([binary, "compare", "--csv"], env=environment, text=True)
    frame = pd.read_csv(io.StringIO(csv)).filter(COLUMNS)
    rows = json.loads(frame.round(5).to_json(orient="records", force_ascii=False))
    outcome = json.loads(done.stdout)
    result = {
        "command": f"python -m benchmarks.losses {name}{' --tuned' if tuned else ''}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "torch": version("torch"), "kdflow": version("kdflow")},
        "seconds": outcome["seconds"],
        "teacher val/accuracy": outcome["teacher"]["metrics"]["val/accuracy"],
        "leaderboard": rows,
        "verdict": outcome["verdict"]["reason"],
    }
    path = Path(__file__).parent / "results" / f"{name}-losses{'-tuned' if tuned else ''}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(path)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=("digits", "mnist"))
    parser.add_argument("--tuned", action="store_true")
    arguments = parser.parse_args()
    sys.exit(main(arguments.name, tuned=arguments.tuned))
