"""Checkpoints as tools write them, what does not fit, and files that are damaged or hold code."""

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import build, load_checkpoint, load_state
from kdmodels.networks.checkpoint import CONTAINERS, read_content, tensor_mappings
from tests.kdmodels.networks.test_hostile_storage import ATTACKS
from tests.support.external import SMALL

State = dict[str, Tensor]


def users(name: str = "without_questions") -> nn.Module:
    """Build a network of the user, whose tensors are 1.weight (5, 48) and 1.bias (5,)."""
    return build(Network.model_validate({"module": f"tests.support.networks:{name}"}), **SMALL)


def kdflows() -> nn.Module:
    return build(Network(mlp=[5]), input_shape=(1, 4, 4), classes=2, mean=[0.5], std=[0.2])


@pytest.fixture
def state() -> State:
    return {"1.weight": torch.full((5, 48), 2.0), "1.bias": torch.arange(5.0)}


def named(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def options() -> argparse.Namespace:
    return argparse.Namespace(model="resnet18", lr=0.1, amp=False, devices=[0, 1], output=None)


def trained(model: nn.Module) -> dict[str, Any]:
    """Return the states of an optimizer and of a schedule after one step."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    model(torch.ones(2, 48)).sum().backward()
    optimizer.step()
    return {"optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}


def as_tutorial(state: State) -> object:
    return {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": trained(nn.Linear(48, 5))["optimizer"],
            "loss": 0.25}  # fmt: skip


def as_rep_distiller(state: State) -> object:
    return {"opt": options(), "model": state, "optimizer": trained(nn.Linear(48, 5))["optimizer"]}


def as_rep_distillers_best(state: State) -> object:
    """The best checkpoint of RepDistiller, which holds the accuracy as a tensor."""
    return {"epoch": 9, "model": state, "best_acc": torch.tensor(72.5), **trained(nn.Linear(48, 5))}


def as_mdistillers_student(state: State) -> object:
    return {"model": state}


def as_torchvision(state: State) -> object:
    return {"model": state, **trained(nn.Linear(48, 5)), "epoch": 89, "args": options()}


def as_timm(state: State) -> object:
    return {"epoch": 1, "arch": "resnet18", "state_dict": state, **trained(nn.Linear(48, 5)), "version": 2,
            "args": options(), "metric": 71.5, "saver": {"checkpoint_files": [("a.pth.tar", 71.5)]}}  # fmt: skip


def as_lightning(state: State) -> object:
    return {
        "epoch": 1, "global_step": 20, "pytorch-lightning_version": "2.5.0", "state_dict": named(state, "model."),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "best_k_models": {}}},
        "optimizer_states": [trained(nn.Linear(48, 5))["optimizer"]], "lr_schedulers": [],
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1},
    }  # fmt: skip


def as_lightning_compiled(state: State) -> object:
    return {"state_dict": named(state, "net._orig_mod."), "epoch": 1}


TOOLS: list[Callable[[State], object]] = [
    dict, as_tutorial, as_rep_distiller, as_rep_distillers_best, as_mdistillers_student, as_torchvision, as_timm,
    as_lightning, as_lightning_compiled,
]  # fmt: skip


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_the_checkpoint_of_each_tool_is_read(
    tool: Callable[[State], object], old: bool, state: State, tmp_path: Path
) -> None:
    torch.save(tool(state), tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
    network = users()
    loaded = load_checkpoint(network, tmp_path / "x.pth")
    assert loaded.keys() == {"network.1.weight", "network.1.bias"}
    assert torch.equal(network.get_parameter("network.1.weight"), state["1.weight"])
    assert torch.equal(network.get_parameter("network.1.bias"), state["1.bias"])


@pytest.mark.parametrize("key", CONTAINERS)
def test_every_usual_key_is_unwrapped(key: str, state: State, tmp_path: Path) -> None:
    torch.save({key: state, "epoch": 3}, tmp_path / "x.pt")
    network = users()
    load_checkpoint(network, tmp_path / "x.pt")
    assert torch.equal(network.get_parameter("network.1.bias"), state["1.bias"])


PREFIXED = ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.", "network."]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXED)
def test_usual_prefixes_are_removed(prefix: str, suffix: str, state: State, tmp_path: Path) -> None:
    file = tmp_path / f"x{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(named(state, prefix), file)
    network = users()
    load_checkpoint(network, file)
    assert torch.equal(network.get_parameter("network.1.bias"), state["1.bias"])


def test_a_prefix_that_belongs_to_the_network_is_kept(state: State, tmp_path: Path) -> None:
    """The user's own attribute is named like the prefix that kdflow adds."""
    torch.save(named(state, "module.network."), tmp_path / "x.pt")
    network = users("Wrapped")
    load_checkpoint(network, tmp_path / "x.pt")
    assert torch.equal(network.get_parameter("network.network.1.weight"), state["1.weight"])


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, torch.optim.swa_utils.AveragedModel])
def test_a_wrapped_network_of_kdflow_is_read_with_its_normalisation(
    wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    source, network = kdflows(), kdflows()
    source.get_buffer("normalise.mean").fill_(0.25)
    torch.save(wrap(source).state_dict(), tmp_path / "x.pt")
    loaded = load_checkpoint(network, tmp_path / "x.pt")
    assert loaded.keys() == source.state_dict().keys()
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_weights_without_normalisation_keep_that_of_the_data(tmp_path: Path) -> None:
    network = kdflows()
    state = {name: tensor + 1 for name, tensor in network.state_dict().items() if not name.startswith("normalise.")}
    torch.save(state, tmp_path / "x.pt")
    assert load_checkpoint(network, tmp_path / "x.pt").keys() == state.keys()
    assert network.state_dict()["normalise.mean"].item() == 0.5
    assert torch.equal(network.state_dict()["head.bias"], state["head.bias"])


def test_a_key_and_a_prefix_choose_the_weights(state: State, tmp_path: Path) -> None:
    """mdistiller stores teacher and student in one mapping; the other file has a dotted path of its own."""
    both = named({name: tensor + 1 for name, tensor in state.items()}, "module.student.") | named(
        state, "module.teacher."
    )
    torch.save({"epoch": 1, "model": both, "best_acc": -1}, tmp_path / "both.pt")
    torch.save({"nets": {"teacher": state, "student": {"1.bias": state["1.bias"]}}}, tmp_path / "nets.pt")
    save_file(both, tmp_path / "both.safetensors")
    for file, choice in [
        ("both.pt", {"prefix": "module.teacher."}),
        ("both.pt", {"key": "model", "prefix": "module.teacher."}),
        ("both.safetensors", {"prefix": "module.teacher."}),
        ("nets.pt", {"key": "nets.teacher"}),
    ]:
        network = users()
        load_checkpoint(network, tmp_path / file, **choice)
        assert torch.equal(network.get_parameter("network.1.bias"), state["1.bias"])


@pytest.mark.parametrize(("average", "prefix"), [("state_dict_ema", ""), ("model_ema", "module.")])
def test_two_sets_of_weights_that_fit_need_a_key(average: str, prefix: str, state: State, tmp_path: Path) -> None:
    averaged = named({name: tensor * 0 for name, tensor in state.items()}, prefix)
    if prefix:
        averaged["n_averaged"] = torch.tensor(3)
    torch.save({average.removesuffix("_ema"): state, average: averaged}, tmp_path / "x.pt")
    assert message(tmp_path / "x.pt") == (
        f"{tmp_path}/x.pt: the weights under {average.removesuffix('_ema')} and {average} all fit the network. Set "
        "teacher.key to one of these keys"
    )
    network = users()
    load_checkpoint(network, tmp_path / "x.pt", key=average)
    assert network.get_parameter("network.1.weight").count_nonzero() == 0


def test_of_two_sets_of_weights_the_one_that_fits_is_taken(state: State, tmp_path: Path) -> None:
    torch.save({"model": {"other": torch.zeros(2)}, "net": state}, tmp_path / "x.pt")
    network = users()
    load_checkpoint(network, tmp_path / "x.pt")
    assert torch.equal(network.get_parameter("network.1.bias"), state["1.bias"])


def message(file: Path, **choice: str) -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(users(), file, **choice)
    assert "\n" not in str(caught.value)
    return str(caught.value)


W, B = torch.zeros(5, 48), torch.zeros(5)
MANY = {f"layer{number}.weight": B for number in range(4)}


@pytest.mark.parametrize(
    ("content", "choice", "line"),
    [
        ({"1.weight": torch.zeros(7, 48), "1.bias": B}, {},
         ": the weights do not fit the network: 1 of another shape: network.1.weight is (7, 48), not (5, 48)"),
        ({"epoch": 3, "model": {"1.weight": W, "fc": B}}, {},
         ": the weights under the key model do not fit the network: 1 missing: network.1.bias; 1 unexpected: "
         "network.fc. The keys of the file: epoch, model"),
        (MANY, {}, ": the weights do not fit the network: 2 missing: network.1.weight, network.1.bias; 4 unexpected: "
         "layer0.weight, layer1.weight, layer2.weight, …"),
        ({"best": {"1.weight": W}, "optimizer": {"state": {0: {"step": B}}}, "epoch": 1}, {},
         ": holds weights under none of the usual keys (state_dict, state_dict_ema, model, model_ema, "
         "model_state_dict, model_state, net, network, weights). Set teacher.key. Allowed: best"),
        ({"1.weight": W, "1.bias": B, "epoch": 3}, {},
         ": holds no mapping of only tensors, as model.state_dict() returns. Its keys: 1.weight, 1.bias, epoch"),
        ({}, {}, ": holds no mapping of only tensors, as model.state_dict() returns. Its keys: "),
        ([W, B], {}, ": holds no mapping of only tensors, as model.state_dict() returns. It is a list"),
        (W, {}, ": holds no mapping of only tensors, as model.state_dict() returns. It is a Tensor"),
        ({"1.weight": W.to_sparse(), "1.bias": B}, {},
         ": holds no mapping of only tensors, as model.state_dict() returns. Its keys: 1.weight, 1.bias"),
        ({"a\x1b": {"b": W}}, {"key": "xyz"},
         "teacher.key: FILE has no mapping of only tensors under 'xyz'. Allowed: a\ufffd"),
        ({"model": {"1.bias": B}}, {"key": "modle"},
         "teacher.key: FILE has no mapping of only tensors under 'modle'. Did you mean 'model'? Allowed: model"),
        ({"1.bias": B}, {"key": "model"},
         "teacher.key: FILE has no mapping of only tensors under 'model'. The tensors are at the top of the file: "
         "remove this field"),
        (MANY, {"prefix": "net."}, "teacher.prefix: no name in FILE begins with 'net.'. Names there: layer0.weight, "
         "layer1.weight, layer2.weight, …"),
    ],
)  # fmt: skip
def test_an_error_says_what_the_file_holds(content: object, choice: dict[str, str], line: str, tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    torch.save(content, file)
    assert message(file, **choice) == (line.replace("FILE", str(file)) if choice else f"{file}{line}")


def test_a_mapping_that_contains_itself_is_read_once(state: State, tmp_path: Path) -> None:
    content: dict[str, object] = {"model": state, "copy": state}
    content["loop"] = content
    torch.save(content, tmp_path / "x.pt")
    assert [*tensor_mappings(read_content(tmp_path / "x.pt"))] == ["model"]


def test_mappings_in_mappings_are_searched_to_a_limited_depth(state: State) -> None:
    content: dict[str, object] = {"weights": state}
    for _ in range(100_000):
        content = {"nested": content}
    assert tensor_mappings(content) == {}
    assert [*tensor_mappings({"a": {"b": {"c": state}}})] == ["a.b.c"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert message(tmp_path / "missing.pt") == f"{tmp_path}/missing.pt: no such checkpoint file"


DAMAGED = (
    "the file is damaged, incomplete or not a checkpoint. Allowed: .safetensors, or a state dict or checkpoint that "
    "torch.save wrote"
)


@pytest.mark.parametrize("name", ["zip.pt", "old.pt", "x.safetensors"])
def test_a_file_that_is_cut_short_at_any_length_is_damaged(name: str, state: State, tmp_path: Path) -> None:
    file = tmp_path / name
    if name == "x.safetensors":
        save_file(state, file)
    else:
        torch.save(as_rep_distiller(state), file, _use_new_zipfile_serialization=name == "zip.pt")
    whole = file.read_bytes()
    assert read_content(file)
    lengths = range(len(whole)) if name == "old.pt" else range(0, len(whole), 13)
    for length in [*lengths[:1500], *lengths[1500::20], len(whole) - 1]:
        file.write_bytes(whole[:length])
        assert message(file) == f"{file}: {DAMAGED}", length


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"not a checkpoint", b"<!DOCTYPE html>", b"version https://git-lfs"]
)
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_file_of_something_else_is_damaged_or_no_checkpoint(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert message(tmp_path / name) == f"{tmp_path / name}: {DAMAGED}"


class Poison:
    """Unpickling it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.canary),))


def save_old(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def pickled(protocol: int) -> Callable[[object, Path], object]:
    return lambda content, file: file.write_bytes(pickle.dumps(content, protocol))


@pytest.mark.parametrize(
    ("write", "holds"),
    [
        (torch.save, "the Python object posix.mkdir"),
        (save_old, "the Python object posix.mkdir"),
        (pickled(2), "the Python object posix.mkdir"),
        (pickled(4), "pickled Python objects"),
        (pickled(5), "pickled Python objects"),
    ],
)
def test_code_is_refused_and_does_not_run(write: Callable[[object, Path], object], holds: str, tmp_path: Path) -> None:
    file, canary = tmp_path / "x.pt", tmp_path / "canary"
    for content in ({"1.weight": Poison(canary)}, {"args": argparse.Namespace(a=Poison(canary))}):
        write(content, file)
        assert message(file) == (
            f"{file}: refused, because the file holds {holds}, and reading that can run code. Where the file was "
            "written, save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
        )
        assert not canary.exists()


def test_a_whole_module_is_refused_with_its_name(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "x.pt")
    assert "holds the Python object torch.nn.modules.container.Sequential, " in message(tmp_path / "x.pt")


def test_a_torchscript_program_is_refused_as_code(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(ATTACKS["script.pt"](tmp_path))
    assert "holds a TorchScript program, and reading that can run code" in message(tmp_path / "x.pt")


def test_a_state_is_whole() -> None:
    network = kdflows()
    state = network.state_dict()
    state["extra"] = state.pop("head.bias")
    with pytest.raises(ValueError, match=r"not the state of this network: extra, head\.bias"):
        load_state(network, state)
