"""Time commands that read a store with many runs: python -m benchmarks.ledger [STUDENTS]

A temporary store gets 100 comparisons without students, and one comparison with 1,000 finished students. Each student
has 25 epochs and 3 seeds, and is validated on 5,000 examples. The students are recorded as `kd run` records them, but
without their networks.

Each command alternates with a process that only imports the modules that the command imports, in the same order.
`beyond` is the median time of the command minus the median time of its imports. `kd compare` with run ids is measured
for only 20 ids, because its time grows linearly.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import turns, write
from kdmodels.evaluation.correctness import Correctness
from kdmodels.experiment import Experiment
from kdmodels.run_status import RunStatus
from kdmodels.training import Replica
from tasks import results, tracking
from tasks import training_runs as runs
from tasks.compare_students import compare_students
from tasks.execution.steps import StepWork
from tasks.planning.plan import make_plan
from tasks.prepare_data import prepare_data
from tasks.references import TeacherReference

STUDENTS, COMPARISONS, EXPERIMENTS, EPOCHS, SEEDS, EXAMPLES = 1_000, 100, 10, 25, 3, 5_000
NAMED, ROUNDS = 20, 5
FIGURES = [f"{part}/{name}" for part in ("train", "val") for name in ("loss", "hard_labels", "soft_targets")]
COSTS = ["size/file_mb", "cost/flops", "cost/memory_mb", "cost/memory_mb_batch64", "val/macro_accuracy", "val/macro_f1"]
COSTS += [f"latency/{share}_ms{batch}" for share in ("p50", "p95") for batch in ("", "_batch64")]
EXPERIMENT: dict[str, Any] = {
    "name": "digits",
    "data": "digits",
    "teacher": {"network": {"mlp": [256, 128]}, "epochs": 20},
    "student": {"network": {"mlp": [8]}, "epochs": EPOCHS, "seeds": SEEDS},
}
# COMMAND prints the names of its modules on the last line of stderr. IMPORTS imports the modules named on stdin.
COMMAND = "import sys; from kd.main import main; main(); print(*sys.modules, file=sys.stderr)"
IMPORTS = """import contextlib, importlib, sys
for name in sys.stdin.read().split():
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""


def fill(students: int) -> list[str]:
    """Record all comparisons and students in the store. Return the run ids of the students."""
    tracking.configure()
    for number in range(COMPARISONS):
        name = f"earlier-{number % EXPERIMENTS}"
        params = {f"field.{field}": field for field in range(50)}
        tracking.end(tracking.start(name, name, "comparison", params=params), RunStatus.FINISHED)
    grid = [{"kd": {"temperature": [1 + number / 100 for number in range(students - 1)]}}]  # beside the control
    experiment = Experiment.model_validate(EXPERIMENT | {"variants": grid})
    data = prepare_data.fn(experiment.data, None)
    parent = tracking.start(experiment.name, experiment.name, "comparison")
    run_ids, generator = [], np.random.default_rng(0)
    for number, step in enumerate(make_plan(experiment, data, fresh=True).students):
        begun = StepWork(step, tracking.machine_folder("checkpoints") / step.key)
        run_id = runs.start(experiment.name, begun, data, parent, runs.origin(), control="hard-labels")
        figures = dict.fromkeys(FIGURES, 0.5)
        # A fifth of the examples is hard. Every student classifies all other examples correctly.
        chances = [[0.5 + (7 * number + 13 * seed) % 97 / 200] for seed in step.seeds]
        outcomes = (generator.random((SEEDS, EXAMPLES)) < chances) | (np.arange(EXAMPLES) % 5 > 0)
        accuracies = outcomes.mean(axis=1).tolist()
        histories = [[figures | {results.ACCURACY: accuracy}] * EPOCHS for accuracy in accuracies]
        replicas = [Replica(*pair, epoch=EPOCHS) for pair in zip(step.seeds, histories, strict=True)]
        log = runs.EpochLog(run_id)
        for epoch in range(1, EPOCHS + 1):
            log(epoch, replicas)
        log.flush()
        tracking.log_metrics(run_id, [(results.SIZE, 610, 0), *((name, 1.5, 0) for name in COSTS)])
        table = [{"seed": r.seed, "epoch": r.epoch, "figures": r.figures, "history": r.history} for r in replicas]
        tracking.log_json(run_id, results.TABLE, table)
        with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
            results.write_correctness(
                Path(folder) / results.CORRECTNESS, {results.OWN: Correctness("validation", outcomes)}
            )
            tracking.log_folder(run_id, Path(folder), results.REPLICAS)
        tracking.end(run_id, RunStatus.FINISHED)
        run_ids.append(run_id)
    teacher = TeacherReference(run_id=parent, reused=False, metrics={results.ACCURACY: 1.0})
    compare_students.fn([results.reference(run_id, reused=False) for run_id in run_ids], teacher, parent)
    tracking.end(parent, RunStatus.FINISHED)
    return run_ids


def run_command(command: list[str], stdin: str = "") -> None:
    """Run a command, and wait until it ends."""
    subprocess.run(command, input=stdin, stdout=subprocess.DEVNULL, text=True, check=True)


def measured(words: list[str]) -> dict[str, Any]:
    """Return the times of a command and of its imports."""
    python, kd = sys.executable, str(Path(sys.executable).with_name("kd"))
    warm_up = subprocess.run([python, "-c", COMMAND, *words], capture_output=True, text=True, check=True)
    modules = warm_up.stderr.splitlines()[-1]
    ways = {
        "command": partial(run_command, [kd, *words]),
        "imports": partial(run_command, [python, "-c", IMPORTS], modules),
    }
    times = turns(ways, ROUNDS)
    median = {way: statistics.median(values) for way, values in times.items()}
    spread = {way: round(max(values) - min(values), 3) for way, values in times.items()}
    return {"beyond": round(median["command"] - median["imports"], 3), "spread": spread, "seconds": times}


def main(students: int = STUDENTS) -> None:
    """Measure, print and write the result."""
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "XDG_CACHE_HOME": f"{folder}/cache"}
        began = time.perf_counter()
        run_ids = fill(students)
        filled = round(time.perf_counter() - began, 1)
        whole = ["list", "--limit", str(students + COMPARISONS + 1)]
        commands = [["compare"], ["list"], whole, ["list", "--experiments"]]
        times = {f"kd {' '.join(words)}": measured(words) for words in commands}
        times[f"kd compare with {NAMED} ids"] = measured(["compare", *run_ids[:NAMED]])
        megabytes = round(Path(folder, "mlflow.db").stat().st_size / 1e6, 1)
    write("ledger", {"students": students, "store_mb": megabytes, "seconds to fill it": filled, "commands": times})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
