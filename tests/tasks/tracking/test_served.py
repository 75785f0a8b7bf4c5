"""Registered models that an attacker has changed: only the ONNX file is read, and no code runs."""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from onnx import ModelProto, TensorProto, helper

from kdmodels.errors import UserError
from tasks import tracking
from tasks.tracking.models import log_model
from tasks.tracking.served import load_model
from tests.support.served import onnx_of

IMAGES = np.zeros((2, 1, 8, 8), np.float32)
URI = "models:/poisoned/1"
Poisoning = Callable[[Path, Path], None]


class Poison:
    """An object whose unpickling creates a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.canary),))


@pytest.fixture(scope="module")
def whole(new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a champion's files, in the current store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("hostile")))
        tracking.configure()
        run = tracking.start("digits", "kd", "student")
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        uri = log_model(run, onnx_of(network, (1, 8, 8), ["a", "b", "c"]), IMAGES)
        tracking.set_champion(tracking.register("poisoned", run, tags={}, description=""))
        model = MlflowClient().get_logged_model(uri.removeprefix("models:/"))
        yield Path(local_file_uri_to_path(model.artifact_location))


@pytest.fixture
def stored(whole: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the same folder, and restore it after the test."""
    shutil.copytree(whole, tmp_path / "whole")
    yield whole
    shutil.rmtree(whole)
    shutil.copytree(tmp_path / "whole", whole)


def described(folder: Path, flavors: dict[str, object]) -> None:
    card = yaml.safe_load((folder / "MLmodel").read_text())
    (folder / "MLmodel").write_text(yaml.safe_dump(card | {"flavors": flavors}))


def with_a_python_model(folder: Path, canary: Path) -> None:
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Poison(canary)))
    described(folder, {"python_function": {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}})


def with_code_of_its_own(folder: Path, canary: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "evil_loader.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    described(folder, {"python_function": {"loader_module": "evil_loader", "code": "code", "data": "data"}})


def with_code_of_a_flavour(folder: Path, canary: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "onnx_evil.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    card = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    described(folder, {"python_function": card["python_function"] | {"code": "code"}, "onnx": {"code": "code"}})


def with_a_pickle_beside(folder: Path, canary: Path) -> None:
    (folder / "data").mkdir()
    torch.save(Poison(canary), folder / "data" / "model.pth")
    (folder / "data" / "pickle_module_info.txt").write_text("pickle")


def with_data_elsewhere(folder: Path, canary: Path) -> None:
    card = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    described(folder, card | {"python_function": card["python_function"] | {"data": "/etc/passwd"}})


def with_options_for_the_session(folder: Path, canary: Path) -> None:
    card = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    options = {"extra_session_config": {"session.load_model_format": "ORT"}}
    described(folder, card | {"onnx": card["onnx"] | {"onnx_session_options": options, "providers": ["EvilProvider"]}})


def with_hostile_requirements(folder: Path, canary: Path) -> None:
    for name in ("requirements.txt", "conda.yaml", "python_env.yaml"):
        (folder / name).write_text("--find-links http://127.0.0.1:9/\nevil\n")


def without_a_description(folder: Path, canary: Path) -> None:
    (folder / "MLmodel").write_text("!!python/object/apply:os.mkdir [" + str(canary) + "]")


@pytest.mark.parametrize(
    "poison",
    [
        with_a_python_model,
        with_code_of_its_own,
        with_code_of_a_flavour,
        with_a_pickle_beside,
        with_data_elsewhere,
        with_options_for_the_session,
        with_hostile_requirements,
        without_a_description,
    ],
    ids=lambda poison: poison.__name__,
)
def test_all_other_files_of_a_model_are_ignored(stored: Path, tmp_path: Path, poison: Poisoning) -> None:
    before = load_model(URI)(IMAGES)
    poison(stored, tmp_path / "canary")
    np.testing.assert_array_equal(load_model(URI)(IMAGES), before)
    assert not (tmp_path / "canary").exists()


def as_a_torch_program(folder: Path, canary: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "data").mkdir()
    program = torch.export.export(torch.nn.Flatten(), (torch.zeros(2, 1, 8, 8),))
    torch.export.save(program, folder / "data" / "model.pt2")


def as_pickled_weights(folder: Path, canary: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "data").mkdir()
    torch.save(Poison(canary), folder / "data" / "model.pth")


def as_a_pickle_of_the_same_name(folder: Path, canary: Path) -> None:
    torch.save(Poison(canary), folder / "model.onnx")


def as_a_torch_program_of_the_same_name(folder: Path, canary: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Flatten(), (torch.zeros(2, 1, 8, 8),)), folder / "program.pt2")
    (folder / "program.pt2").rename(folder / "model.onnx")


def as_a_link(folder: Path, canary: Path) -> None:
    elsewhere = folder.with_name("elsewhere.onnx")
    (folder / "model.onnx").rename(elsewhere)
    (folder / "model.onnx").symlink_to(elsewhere)


def as_an_endless_device(folder: Path, canary: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("/dev/zero")


def as_a_pipe(folder: Path, canary: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")


def as_a_folder(folder: Path, canary: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()


def as_a_terabyte(folder: Path, canary: Path) -> None:
    with (folder / "model.onnx").open("r+b") as file:
        file.truncate(2**40)


def with_weights_in_another_file(folder: Path, canary: Path) -> None:
    model = ModelProto.FromString((folder / "model.onnx").read_bytes())
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")


def with_an_operator_from_a_library(folder: Path, canary: Path) -> None:
    model = ModelProto.FromString((folder / "model.onnx").read_bytes())
    model.graph.node[-1].output[0] = "inner"
    model.opset_import.add(domain="evil", version=1)
    model.graph.node.append(helper.make_node("Evil", ["inner"], ["logits"], domain="evil"))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def of_other_ends(folder: Path, canary: Path) -> None:
    model = ModelProto.FromString((folder / "model.onnx").read_bytes())
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 3]))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


AGAIN = r"is a torch program \(pt2\), which kdflow does not load; register it again .*: kd promote [0-9a-f]{8}$"


@pytest.mark.parametrize(
    ("poison", "line"),
    [
        (as_a_torch_program, AGAIN),
        (as_pickled_weights, AGAIN),
        (as_a_pickle_of_the_same_name, "is refused: "),
        (as_a_torch_program_of_the_same_name, "is refused: "),
        (as_a_link, "is refused: the file is a link"),
        (as_an_endless_device, "is refused: the file is a link"),
        (as_a_pipe, "is refused: the file is not a regular file"),
        (as_a_folder, "is refused: the file is not a regular file"),
        (as_a_terabyte, "is refused: the file has 1099511627776 bytes"),
        (with_weights_in_another_file, "is refused: tensor .* is stored in another file"),
        (with_an_operator_from_a_library, "is refused: the file uses an operator of 'evil'"),
        (of_other_ends, "is refused: the input is images"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_hostile_model_is_refused_in_one_line(stored: Path, tmp_path: Path, poison: Poisoning, line: str) -> None:
    poison(stored, tmp_path / "canary")
    with pytest.raises(UserError, match=line) as refused:
        load_model(URI)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "canary").exists()


def test_a_version_whose_source_is_another_folder_is_read_as_data_too(whole: Path, tmp_path: Path) -> None:
    """A user who may write to the registry may name any folder as a version's source."""
    client = MlflowClient()
    client.create_registered_model("elsewhere")
    (tmp_path / "model.onnx").write_text("secret")
    client.create_model_version("elsewhere", tmp_path.as_uri())
    with pytest.raises(UserError, match=r"^model 'models:/elsewhere/1' is refused: ") as refused:
        load_model("models:/elsewhere/1")
    assert "secret" not in str(refused.value)


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    "source", ["http://127.0.0.1:9/x", "s3://bucket/x", "sftp://127.0.0.1:9/x", "/etc", "runs:/none/x"]
)
def test_a_version_in_an_unreadable_store_is_an_error_in_one_line(source: str) -> None:
    """MLflow's clients for other stores raise many types of errors, for example if a client is not installed."""
    version = MlflowClient().create_model_version("poisoned", source)
    with pytest.raises(UserError, match=rf"^model 'models:/poisoned/{version.version}' ") as refused:
        load_model(f"models:/poisoned/{version.version}")
    assert "\n" not in str(refused.value)
