"""An experiment file gives the same bits in another folder, in an empty store, and as `kd show --spec` prints it."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from tasks import tracking
from tests.faults.conftest import Workspace

pytestmark = pytest.mark.fault


def results(workspace: Workspace) -> dict[str, Any]:
    """Return the results of a run except run ids and times: digests, keys, metrics and weights."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "XDG_CACHE_HOME"):
            patch.setenv(name, workspace.environment[name])
        outcome = workspace.outcome()
        runs = {run.name: run for run in tracking.runs() if run.kind != "comparison"}
        assert [run.metrics["val/accuracy"] > 0.5 for run in runs.values()] == [True] * len(runs)
        (comparison,) = tracking.runs(kind="comparison")
        knowledge = tracking.artifact(runs["teacher"].run_id, "knowledge")
        return outcome | {
            "keys": {name: run.key for name, run in runs.items()},
            "params": {name: run.params for name, run in runs.items()},  # includes the digest of the data
            "splits": tracking.read_json(comparison.run_id, "splits.json"),
            "knowledge": {
                str(file.relative_to(knowledge)): sha256(file.read_bytes()).hexdigest()
                for file in knowledge.rglob("*.npy")
            },
        }


@pytest.fixture(scope="module")
def first_run(new_workspace: Callable[[], Workspace]) -> Workspace:
    return run(new_workspace(), "small.yaml", hashes="1")


def run(workspace: Workspace, *words: str, hashes: str) -> Workspace:
    """Run `kd run` with a seed for Python's hashes, which determines the order of sets."""
    done = workspace.kd("run", "--quiet", *words, PYTHONHASHSEED=hashes)
    assert done.returncode == 0, done.stderr
    return workspace


def test_runs_in_two_folders_are_identical(first_run: Workspace, new_workspace: Callable[[], Workspace]) -> None:
    first, second = results(first_run), results(run(new_workspace(), "small.yaml", hashes="2"))
    files = first["kd"]["files"]
    assert {"network.safetensors", "seed-0.safetensors", "seed-1.safetensors"} <= files.keys()
    assert files["seed-0.safetensors"] != files["seed-1.safetensors"]  # so different seeds do give different weights
    assert len([value for name, value in first["kd"]["metrics"].items() if name.startswith("train/")]) > 1
    assert {len(values) for name, values in first["kd"]["metrics"].items() if name == "train/loss"} == {40}
    assert len(first["params"]["kd"]["data.digest"]) == 64
    assert len(first["knowledge"]) == 2
    assert second == first


def test_students_trained_in_processes_and_threads_are_identical(
    first_run: Workspace, new_workspace: Callable[[], Workspace]
) -> None:
    words = ("--set", "runner.kind=process", "--set", "runner.workers=2")
    assert results(run(new_workspace(), "small.yaml", *words, hashes="3")) == results(first_run)


@pytest.mark.parametrize("word", ["small", "kd"])
def test_the_file_printed_by_show_gives_the_same_bits_in_an_empty_store(
    first_run: Workspace, new_workspace: Callable[[], Workspace], word: str
) -> None:
    shown = first_run.kd("show", word, "--spec")
    assert shown.returncode == 0, shown.stderr
    workspace = new_workspace()
    (workspace.folder / "small.yaml").unlink()
    (workspace.folder / "again.yaml").write_text(shown.stdout)
    assert results(run(workspace, "again.yaml", hashes="4")) == results(first_run)


def test_another_seed_gives_another_result(first_run: Workspace, new_workspace: Callable[[], Workspace]) -> None:
    """Otherwise the other tests would prove nothing."""
    first, other = results(first_run), results(run(new_workspace(), "small.yaml", "--set", "seed=5", hashes="1"))
    for name in ("teacher", "kd", "hard-labels"):
        assert first["keys"][name] != other["keys"][name]
        assert weights(first[name]["files"]).isdisjoint(weights(other[name]["files"]))


def weights(files: dict[str, str]) -> set[str]:
    return {content for name, content in files.items() if name.endswith(".safetensors")}
