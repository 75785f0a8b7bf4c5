"""Networks on disk: what is written is read back, and nothing that is read may run."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import Description, load_network, read_state, save_network
from kdmodels.networks.stacked import is_stackable
from kdmodels.networks.storage import DESCRIPTION, WEIGHTS, fill, load_state
from kdmodels.randomness import generator_for

DESCRIBED = Description(
    network=Network(mlp=[5], dropout=0.2), input_shape=(1, 4, 4), classes=["a", "b"], mean=[0.5], std=[0.2]
)


def test_a_stored_network_comes_back(tmp_path: Path) -> None:
    network = DESCRIBED.build().eval()
    save_network(tmp_path, DESCRIBED, network.state_dict())
    loaded, description = load_network(tmp_path)
    images = torch.rand(3, 1, 4, 4)
    assert description == DESCRIBED
    assert not loaded.training
    assert torch.equal(loaded(images), network(images))


@pytest.mark.parametrize("network", [Network(mlp=[5]), Network(conv=[4]), Network(torchvision="resnet18")], ids=str)
def test_a_network_can_resize_its_input(tmp_path: Path, network: Network) -> None:
    described = Description(
        network=network, input_shape=(1, 8, 8), classes=["a", "b"], mean=[0.5], std=[0.2], size=(32, 24)
    )
    whole = described.build().eval()
    plain = described.model_copy(update={"input_shape": (1, 32, 24), "size": None}).build().eval()
    assert whole.state_dict().keys() == plain.state_dict().keys()
    load_state(plain, whole.state_dict())
    images = torch.rand(3, 1, 8, 8, generator=generator_for(0, "images"))
    resized = torch.nn.functional.interpolate(images, (32, 24), mode="bilinear", antialias=True)
    assert torch.equal(whole(images), plain(resized))
    save_network(tmp_path, described, whole.state_dict())
    assert torch.equal(load_network(tmp_path)[0](images), whole(images))
    assert not is_stackable(whole)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_of_either_kind_is_read(tmp_path: Path, suffix: str) -> None:
    state = DESCRIBED.build().state_dict()
    if suffix == ".pt":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "x.pt")
    else:
        save_network(tmp_path, DESCRIBED, state)
        (tmp_path / WEIGHTS).rename(tmp_path / "x.safetensors")
    read = read_state(tmp_path / f"x{suffix}")
    assert all(torch.equal(read[name], state[name]) for name in state)


class Poison:
    """Unpickling it writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.canary),))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_poisoned_pickle_is_refused_and_nothing_runs(tmp_path: Path, write: object) -> None:
    canary, path = tmp_path / "canary", tmp_path / "teacher.pt"
    write({"head.weight": Poison(canary)}, path)  # type: ignore[operator]
    with pytest.raises(UserError, match="without running code"):
        read_state(path)
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"not a checkpoint"])
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_damaged_files_are_a_users_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_state(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.pt: no such checkpoint file"):
        read_state(tmp_path / "gone.pt")


def test_weights_that_do_not_fit_name_every_key() -> None:
    network = DESCRIBED.build()
    state = network.state_dict()
    state["extra"] = state.pop("head.bias")
    state["head.weight"] = torch.zeros(3, 3)
    with pytest.raises(UserError, match=r"missing: head\.bias; unexpected: extra; of another shape: head\.weight is"):
        fill(network, state, Path("x.pt"))


def test_a_state_is_whole() -> None:
    network = DESCRIBED.build()
    state = network.state_dict()
    state["extra"] = state.pop("head.bias")
    with pytest.raises(ValueError, match=r"not the state of this network: extra, head\.bias"):
        load_state(network, state)


def test_weights_without_normalisation_keep_that_of_the_data() -> None:
    network = DESCRIBED.build()
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("normalise.")}
    fill(network, state, Path("x.pt"))
    assert network.state_dict()["normalise.mean"].item() == 0.5


def test_a_folder_without_its_description_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=DESCRIPTION):
        load_network(tmp_path)
    (tmp_path / DESCRIPTION).write_text("{}")
    with pytest.raises(UserError, match="not the description"):
        load_network(tmp_path)
