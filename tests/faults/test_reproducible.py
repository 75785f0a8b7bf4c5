"""The same file gives the same bits: in another folder, in an empty store, from what `kd show --spec` prints."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from tasks import tracking
from tests.faults.conftest import Place

pytestmark = pytest.mark.fault


def found(place: Place) -> dict[str, Any]:
    """All that a run of an experiment leaves, but for names of runs and times: digests, keys, figures, weights."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "XDG_CACHE_HOME"):
            patch.setenv(name, place.environment[name])
        outcome = place.outcome()
        runs = {run.name: run for run in tracking.runs() if run.kind != "comparison"}
        assert [run.metrics["val/accuracy"] > 0.5 for run in runs.values()] == [True] * len(runs)
        (comparison,) = tracking.runs(kind="comparison")
        knowledge = tracking.artifact(runs["teacher"].run_id, "knowledge")
        return outcome | {
            "keys": {name: run.key for name, run in runs.items()},
            "params": {name: run.params for name, run in runs.items()},  # the digest of the data is among them
            "splits": tracking.read_json(comparison.run_id, "splits.json"),
            "knowledge": {
                str(file.relative_to(knowledge)): sha256(file.read_bytes()).hexdigest()
                for file in knowledge.rglob("*.npy")
            },
        }


@pytest.fixture(scope="module")
def once(new_place: Callable[[], Place]) -> Place:
    return ran(new_place(), "small.yaml", hashes="1")


def ran(place: Place, *words: str, hashes: str) -> Place:
    """After `kd run` in a process whose hashes, and so the orders of sets, are of that seed."""
    done = place.kd("run", "--quiet", *words, PYTHONHASHSEED=hashes)
    assert done.returncode == 0, done.stderr
    return place


def test_two_runs_in_two_places_are_the_same_bit_for_bit(once: Place, new_place: Callable[[], Place]) -> None:
    first, second = found(once), found(ran(new_place(), "small.yaml", hashes="2"))
    files = first["kd"]["files"]
    assert {"network.safetensors", "seed-0.safetensors", "seed-1.safetensors"} <= files.keys()
    assert files["seed-0.safetensors"] != files["seed-1.safetensors"]  # and that they could differ
    assert len([value for name, value in first["kd"]["metrics"].items() if name.startswith("train/")]) > 1
    assert {len(values) for name, values in first["kd"]["metrics"].items() if name == "train/loss"} == {40}
    assert len(first["params"]["kd"]["data.digest"]) == 64
    assert len(first["knowledge"]) == 2
    assert second == first


def test_students_in_processes_are_those_in_threads(once: Place, new_place: Callable[[], Place]) -> None:
    words = ("--set", "runner.kind=process", "--set", "runner.workers=2")
    assert found(ran(new_place(), "small.yaml", *words, hashes="3")) == found(once)


@pytest.mark.parametrize("word", ["small", "kd"])
def test_the_file_that_show_prints_gives_the_same_bits_in_an_empty_store(
    once: Place, new_place: Callable[[], Place], word: str
) -> None:
    shown = once.kd("show", word, "--spec")
    assert shown.returncode == 0, shown.stderr
    place = new_place()
    (place.folder / "small.yaml").unlink()
    (place.folder / "again.yaml").write_text(shown.stdout)
    assert found(ran(place, "again.yaml", hashes="4")) == found(once)


def test_another_seed_is_another_result(once: Place, new_place: Callable[[], Place]) -> None:
    """Else the others would prove nothing."""
    first, other = found(once), found(ran(new_place(), "small.yaml", "--set", "seed=5", hashes="1"))
    for name in ("teacher", "kd", "hard-labels"):
        assert first["keys"][name] != other["keys"][name]
        assert weights(first[name]["files"]).isdisjoint(weights(other[name]["files"]))


def weights(files: dict[str, str]) -> set[str]:
    return {content for name, content in files.items() if name.endswith(".safetensors")}
