"""Models in a store of an earlier version of kdflow, which stored models as torch programs (pt2)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput

from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment, Network
from kdmodels.networks import Description, save_network
from tasks import tracking
from tasks.predict import predict
from tasks.prepare_data import load, prepare_data
from tasks.promote_student import promote_student
from tasks.promotion import PromoteOptions
from tasks.references import DataReference, LeaderboardReference, StudentReference
from tasks.results import NETWORK
from tasks.tracking.contents import model_id
from tasks.tracking.served import load_model
from tests.conftest import SMALL


@dataclass(frozen=True)
class Old:
    """A store whose champion, version 1 of the model `old`, is a torch program of the run `run_id`."""

    run_id: str
    data: DataReference
    network: torch.nn.Module

    def promote(self, run_id: str, *, dry_run: bool = False):
        student = StudentReference(
            variant="kd", run_id=run_id, status="FINISHED", reused=False, seeds=[0], metrics={}, per_seed={},
            parameters=650, control="kd",
        )  # fmt: skip
        parent = tracking.start("old", "old", "comparison")
        leaderboard = LeaderboardReference(parent_run_id=parent, teacher_run_id=None, students=[student], winner="kd")
        experiment = Experiment.model_validate(SMALL | {"promote": {"model": "old"}})
        options = PromoteOptions(by_name=True, dry_run=dry_run)
        return promote_student.fn(leaderboard, experiment, self.data, code=(), options=options)


def old_run(description: Description, network: torch.nn.Module, folder: Path) -> str:
    """Create a finished run with weights, costs and a model that is a torch program without a format tag."""
    run_id = tracking.start("old", "kd", "student", params={"threads": 1})
    (folder / "network").mkdir(parents=True)
    save_network(folder / "network", description, network.state_dict())
    tracking.log_folder(run_id, folder / "network", NETWORK)
    costs = [("size/parameters", 650, 0), ("size/file_mb", 0.003, 0), ("latency/p50_ms", 999.0, 0)]
    tracking.log_metrics(run_id, costs)
    client = MlflowClient()
    model = client.create_logged_model(tracking.experiment_id("old"), name="model", source_run_id=run_id)
    (folder / "model" / "data").mkdir(parents=True)
    program = torch.export.export(network, (torch.zeros(2, 1, 8, 8),))
    torch.export.save(program, folder / "model" / "data" / "model.pt2")
    (folder / "model" / "MLmodel").write_text("flavors: {pytorch: {model_data: data}}")
    client.log_model_artifacts(model.model_id, str(folder / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    tracking.end(run_id, "FINISHED")
    return run_id


@pytest.fixture
def old(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Old:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    data = prepare_data.fn(Data(source="digits"), None)
    description = Description(
        network=Network(mlp=[8]), input_shape=(1, 8, 8), classes=data.classes, mean=[0.5], std=[0.5]
    )
    torch.manual_seed(0)
    network = description.build().eval()
    run_id = old_run(description, network, tmp_path / "made")
    client = MlflowClient()
    client.create_registered_model("old")
    source = client.get_run(run_id).outputs.model_outputs[0].model_id
    client.create_model_version("old", f"models:/{source}", run_id=run_id, tags={"kd.note": "kept"}, model_id=source)
    client.set_registered_model_alias("old", "champion", "1")
    return Old(run_id, data, network)


def test_the_error_for_an_old_champion_says_how_to_convert_it(old: Old, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError) as refusal:
        predict("old", [tmp_path / "a.png"])
    assert str(refusal.value) == (
        "model 'models:/old/1' is a torch program (pt2), which kdflow does not load; "
        f"register it again from its stored weights: kd promote {old.run_id[:8]}"
    )


def test_promoting_the_run_registers_the_champion_again_as_onnx(old: Old) -> None:
    verdict = old.promote(old.run_id)
    assert (verdict.already_champion, verdict.version) == (True, 2)
    champion = tracking.champion("old")
    assert champion is not None
    assert (champion.version, champion.run_id, champion.tags["kd.note"]) == (2, old.run_id, "kept")
    assert [version.aliases for version in tracking.versions("old")] == [("champion",), ()]
    images = load(old.data).validation.images
    with torch.no_grad():
        expected = old.network(images)
    torch.testing.assert_close(torch.from_numpy(load_model(champion.uri)(images.numpy())), expected)
    metrics = tracking.get(old.run_id).metrics
    assert metrics["latency/p50_ms"] < 999  # of the file that is served now
    assert metrics["cost/flops"] == 2 * (64 * 8 + 8 * 10)
    assert metrics["onnx/agreement"] == 1
    assert old.promote(old.run_id).version == 2  # and no third one


def test_a_dry_run_registers_nothing(old: Old) -> None:
    verdict = old.promote(old.run_id, dry_run=True)
    assert verdict.already_champion
    assert [version.version for version in tracking.versions("old")] == [1]
    assert model_id(old.run_id) is None


def test_a_challenger_of_an_earlier_version_is_converted_to_onnx(old: Old, tmp_path: Path) -> None:
    description = Description(
        network=Network(mlp=[8]), input_shape=(1, 8, 8), classes=old.data.classes, mean=[0.5], std=[0.5]
    )
    old.promote(old.run_id)
    challenger = old_run(description, old.network, tmp_path / "other")
    verdict = old.promote(challenger)
    assert not verdict.already_champion
    assert model_id(challenger) is not None


def test_the_error_for_a_challenger_says_to_convert_the_champion_first(old: Old, tmp_path: Path) -> None:
    description = Description(
        network=Network(mlp=[8]), input_shape=(1, 8, 8), classes=old.data.classes, mean=[0.5], std=[0.5]
    )
    challenger = old_run(description, old.network, tmp_path / "other")
    with pytest.raises(UserError, match=f"^model 'models:/old/1' is a torch program .*: kd promote {old.run_id[:8]}$"):
        old.promote(challenger)
