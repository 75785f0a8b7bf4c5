"""What the promotion step reads of a network, when the data's classes are no longer those it was trained on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdmodels.evaluation import predict
from kdmodels.experiment import Data, Network
from kdmodels.networks import Description, load_network, save_network
from tasks import tracking
from tasks.data import load, prepare_data
from tasks.promotion import HeldOut, _champion_candidate, measure
from tasks.references import DataReference
from tasks.results import NETWORK
from tests.tasks.rows import Rows

CODE = {"tests.tasks.rows"}


@pytest.fixture
def data(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataReference:
    """Images that are bright in their class's row."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tracking.configure()
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 30, (60, 3, 3), dtype=np.uint8)
    images[np.arange(60), labels] += 200
    path = tmp_path / "rows.npz"
    np.savez(path, images=images, labels=np.array(["bird", "cat", "dog"])[labels])
    return prepare_data.fn(Data(source=str(path)), None)


def recorded(classes: list[str], rows: list[int], folder: Path) -> str:
    """The run of a network that gives each of its classes the brightness of a row."""
    run_id = tracking.start("old", "kd", "student", params={"threads": 1})
    shape = {"input_shape": (1, 3, 3), "mean": [0.0], "std": [1.0]}
    description = Description.model_validate(
        {"network": Network(module="tests.tasks.rows:Rows"), "classes": classes, **shape}
    )
    state = description.build().state_dict() | {"network.row.weight": torch.eye(3)[rows]}
    folder.mkdir()
    save_network(folder, description, state)
    tracking.log_folder(run_id, folder, NETWORK)
    tracking.log_metrics(run_id, [("size/parameters", 1, 0), ("size/file_mb", 1, 0)])
    tracking.end(run_id, "FINISHED")
    return run_id


@pytest.mark.parametrize(("classes", "rows", "accuracy"), [
    (["bird", "cat", "dog"], [0, 1, 2], 1.0),
    (["dog", "bird", "cat"], [2, 0, 1], 1.0),  # the same network, its classes in another order
    (["cat", "dog"], [1, 2], 2 / 3),  # trained before there were birds
    (["ant", "cat", "dog"], [0, 1, 2], 2 / 3),  # it knew ants, which are gone
])  # fmt: skip
def test_a_champions_classes_are_matched_by_name(
    data: DataReference, tmp_path: Path, classes: list[str], rows: list[int], accuracy: float
) -> None:
    run_id = recorded(classes, rows, tmp_path / "made")
    network, description = load_network(tracking.artifact(run_id, NETWORK), CODE)
    test = HeldOut(data, run_id, CODE)
    candidate, figures = measure("x", run_id, description, predict(network, test.split).numpy(), test, None)
    assert candidate.correct.mean() == pytest.approx(accuracy)
    assert figures["test/accuracy"] == pytest.approx(accuracy)
    assert figures["test/macro_accuracy"] == pytest.approx(accuracy)


def test_the_champion_is_measured_as_it_is_served_though_its_code_has_changed(
    data: DataReference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = recorded(["bird", "cat", "dog"], [0, 1, 2], tmp_path / "made")
    network, _ = load_network(tracking.artifact(run_id, NETWORK), CODE)
    tracking.log_model(run_id, network, np.zeros((2, 1, 3, 3), np.float32), metadata={})
    champion = tracking.crown(tracking.register("rows", run_id, tags={}, description=""))
    monkeypatch.setattr(Rows, "forward", lambda self, images: -self.row(images.mean(dim=3).squeeze(1)))
    assert predict(network, load(data).read_test()).argmax(dim=1).ne(load(data).read_test().labels).all()
    assert _champion_candidate(champion, HeldOut(data, run_id, CODE)).correct.all()
