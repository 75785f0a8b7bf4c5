"""A registered model that would run code when it is loaded: refused, and a canary proves that nothing ran."""

import contextlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from kdmodels.errors import UserError
from tasks import tracking


class Poison:
    """Unpickling it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.canary),))


def as_pickle(folder: Path, canary: Path) -> None:
    """As `mlflow.pytorch.log_model` stores a module by default."""
    (folder / "data" / "model.pt2").unlink()
    torch.save(Poison(canary), folder / "data" / "model.pth")
    (folder / "data" / "pickle_module_info.txt").write_text("pickle")


def beside_the_program(folder: Path, canary: Path) -> None:
    torch.save(Poison(canary), folder / "data" / "model.pth")
    (folder / "data" / "pickle_module_info.txt").write_text("pickle")


def as_python_model(folder: Path, canary: Path) -> None:
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Poison(canary)))
    described(folder, {"python_function": {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}})


def with_its_own_code(folder: Path, canary: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "evil_loader.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    described(folder, {"python_function": {"loader_module": "evil_loader", "code": "code", "data": "data"}})


def with_code_beside(folder: Path, canary: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "torch_evil.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    card = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    described(folder, card | {"python_function": card["python_function"] | {"code": "code"}})


def as_a_program_outside_its_folder(folder: Path, canary: Path) -> None:
    """What lies in the folder stays as it was."""
    elsewhere = folder.with_name("elsewhere")
    shutil.copytree(folder, elsewhere)
    in_a_size_that_torch_evaluates(elsewhere, canary)
    card = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    described(folder, card | {"python_function": card["python_function"] | {"data": "../elsewhere/data"}})


def in_the_programs_inputs(folder: Path, canary: Path) -> None:
    rewritten(folder, "sample_inputs/model.pt", lambda content: pickle.dumps(Poison(canary)))


def in_the_programs_weights(folder: Path, canary: Path) -> None:
    def pickled(content: bytes) -> bytes:
        config = json.loads(content)
        for meta in config["config"].values():
            meta["use_pickle"] = True
        return json.dumps(config).encode()

    rewritten(folder, "model_weights_config.json", pickled)
    rewritten(folder, "weights/weight_0", lambda content: pickle.dumps(Poison(canary)))


def in_a_size_that_torch_evaluates(folder: Path, canary: Path) -> None:
    rewritten(
        folder,
        "models/model.json",
        lambda content: content.replace(
            b'"expr_str": "Symbol(\'', f"\"expr_str\": \"__import__('os').mkdir('{canary}') or Symbol('".encode()
        ),
    )


def in_a_size_behind_an_escape(folder: Path, canary: Path) -> None:
    """JSON may write the letters of a key as numbers."""
    in_a_size_that_torch_evaluates(folder, canary)
    rewritten(folder, "models/model.json", lambda content: content.replace(b'"expr_str"', b'"\\u0065xpr_str"'))


def in_a_guard_that_torch_executes(folder: Path, canary: Path) -> None:
    guard = json.dumps([f"__import__('os').mkdir('{canary}') or True"]).encode()
    rewritten(
        folder, "models/model.json", lambda content: content.replace(b'"guards_code": []', b'"guards_code": ' + guard)
    )


def as_the_second_file_of_a_name(folder: Path, canary: Path) -> None:
    with zipfile.ZipFile(folder / "data" / "model.pt2", "a") as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("models/model.json")]
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, archive.read(name))


def described(folder: Path, flavors: dict[str, object]) -> None:
    card = yaml.safe_load((folder / "MLmodel").read_text())
    (folder / "MLmodel").write_text(yaml.safe_dump(card | {"flavors": flavors}))


def rewritten(folder: Path, record: str, change: Callable[[bytes], bytes]) -> None:
    file = folder / "data" / "model.pt2"
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    (name,) = [name for name in records if name.endswith(record)]
    changed = change(records[name])
    assert changed != records[name]
    with zipfile.ZipFile(file, "w") as archive:
        for other, content in records.items():
            archive.writestr(other, changed if other == name else content)


@pytest.fixture(scope="module")
def stored(new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a champion's files, in a store that this process reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("hostile")))
        tracking.configure()
        run = tracking.start("digits", "kd", "student")
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
        metadata = {"classes": ["a", "b", "c"]}
        uri = tracking.log_model(run, network, np.zeros((2, 1, 8, 8), np.float32), metadata=metadata)
        tracking.crown(tracking.register("poisoned", run, tags={}, description=""))
        model = MlflowClient().get_logged_model(uri.removeprefix("models:/"))
        yield Path(local_file_uri_to_path(model.artifact_location))


@pytest.mark.parametrize(
    "poison",
    [
        as_pickle,
        beside_the_program,
        as_python_model,
        with_its_own_code,
        with_code_beside,
        as_a_program_outside_its_folder,
        in_the_programs_inputs,
        in_the_programs_weights,
        in_a_size_that_torch_evaluates,
        in_a_size_behind_an_escape,
        in_a_guard_that_torch_executes,
        as_the_second_file_of_a_name,
    ],
    ids=lambda poison: poison.__name__,
)
def test_a_poisoned_model_is_refused_and_nothing_runs(
    stored: Path, tmp_path: Path, poison: Callable[[Path, Path], None]
) -> None:
    canary, whole = tmp_path / "canary", tmp_path / "whole"
    shutil.copytree(stored, whole)
    assert tracking.load_predictor("models:/poisoned@champion")(np.zeros((2, 1, 8, 8), np.float32)).shape == (2, 3)
    try:
        poison(stored, canary)
        with pytest.raises(UserError, match="can't be loaded without running code from it: ") as refused:
            tracking.load_predictor("models:/poisoned@champion")
    finally:
        shutil.rmtree(stored)
        shutil.copytree(whole, stored)
    assert "\n" not in str(refused.value)
    assert not canary.exists()


@pytest.mark.parametrize(
    "poison", [in_a_size_that_torch_evaluates, in_a_size_behind_an_escape, in_a_guard_that_torch_executes]
)
def test_it_would_have_run_code(stored: Path, tmp_path: Path, poison: Callable[[Path, Path], None]) -> None:
    """That the canary can sing: torch alone evaluates what the program says of its sizes."""
    canary, copy = tmp_path / "canary", tmp_path / "copy"
    shutil.copytree(stored, copy)
    poison(copy, canary)
    with contextlib.suppress(Exception):
        torch.export.load(copy / "data" / "model.pt2").module()(torch.zeros(2, 1, 8, 8))
    assert canary.exists()
