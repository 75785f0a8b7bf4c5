"""Networks from elsewhere: what they are given, what is refused, and pretrained weights that lie on the disk."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import Description, build, initialise, load_network, replaced_head, save_network, sources
from kdmodels.networks.storage import fill
from kdmodels.randomness import stream

SMALL: dict[str, Any] = {"input_shape": (3, 4, 4), "classes": 5, "mean": [0.5] * 3, "std": [0.2] * 3}
RGB = SMALL | {"input_shape": (3, 32, 32)}


def refused(raw: object, **images: Any) -> str:
    with pytest.raises(UserError) as caught:
        build(Network.model_validate(raw), **(RGB | images))
    return str(caught.value)


def own(name: str) -> dict[str, str]:
    return {"module": f"tests.kdmodels.networks.own:{name}"}


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ({"module": "nowhere.at_all:Net"}, "network.module: nowhere.at_all can't be imported: ModuleNotFoundError: "),
        (own("Attentoin"), "network.module: tests.kdmodels.networks.own has no 'Attentoin'; did you mean 'Attention'?"),
        (own("answer"), "network.module: tests.kdmodels.networks.own:answer is a int, not a class or function"),
        (own("no_network"), "network.module: tests.kdmodels.networks.own:no_network gives a str, not a torch.nn."),
        (own("raising"), "network.module: tests.kdmodels.networks.own:raising(classes=5) raised ValueError: "
         "no network for 5 classes"),
        (own("Dictionary"), "network.module: tests.kdmodels.networks.own:Dictionary gives a dict for two images; "
         "allowed: a tensor of (2, 5), a logit a class"),
        (own("three_classes"), "network.module: tests.kdmodels.networks.own:three_classes gives (2, 3) for two images; "
         "allowed: a tensor of (2, 5), a logit a class"),
        (own("Tied"), "network.module: tests.kdmodels.networks.own:Tied has parameters that two layers share: "
         "network.other.weight; allowed: each its own"),
        (own("narrow"), "network.module: tests.kdmodels.networks.own:narrow fails on images of 3x4x4 (RuntimeError: "),
        ({"torchvision": "resnet19"}, "network.torchvision: 'resnet19' is not one of its classification models; did "),
        ({"torchvision": "raft_small"}, "network.torchvision: 'raft_small' is not one of its classification models; "),
        ({"timm": "resnet1"}, "network.timm: 'resnet1' is not one of its models; did you mean resnet18, "),
        ({"timm": "resnet18.a1_in1k"}, "network.timm: 'resnet18.a1_in1k' is not one of its models; did you mean "),
    ],
    ids=str,
)  # fmt: skip
def test_a_network_that_can_not_be_had_is_one_line(raw: object, line: str) -> None:
    told = refused(raw, input_shape=(3, 4, 4))
    assert told.startswith(line)
    assert "\n" not in told


def test_a_module_is_given_what_its_signature_asks_for() -> None:
    lazy = build(Network.model_validate({**own("by_function"), "arguments": {"hidden": 9}}), **SMALL)
    assert lazy.network[3].weight.shape == (5, 9)  # type: ignore[index, union-attr]
    initialise(lazy, stream(0, "student"))  # its first layer finds its size in a forward pass
    assert lazy.network[1].weight.shape == (9, 48)  # type: ignore[index, union-attr]
    plain = build(Network.model_validate(own("without_questions")), **SMALL)
    assert plain.network[1].weight.shape == (5, 48)  # type: ignore[index, union-attr]
    three = build(Network.model_validate({**own("by_function"), "arguments": {"classes": 5}}), **SMALL)
    assert three(torch.zeros(2, 3, 4, 4)).shape == (2, 5)


def test_a_module_in_the_current_folder_is_found_and_its_source_is_digested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    text = "from torch import nn\n\ndef net(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))\n"
    Path("mine_of_this_test.py").write_text(text)
    network = Network.model_validate("mine_of_this_test:net")
    assert build(network, **SMALL)(torch.zeros(2, 3, 4, 4)).shape == (2, 5)
    first = sources(network)
    Path("mine_of_this_test.py").write_text(text + "# changed\n")
    assert sources(network) != first
    assert sources(Network(mlp=[3])) == {}
    assert sources(Network(torchvision="resnet18")).keys() == {"torchvision version"}
    assert sources(Network(timm="resnet18")).keys() == {"timm version"}
    with pytest.raises(UserError, match=r"network.module: torch:tensor is not written in a file"):
        sources(Network.model_validate("torch:tensor"))


@pytest.mark.parametrize(("name", "smallest"), [("alexnet", 63), ("vit_b_32", 224)])
def test_images_that_are_too_small_are_told_the_smallest_size(name: str, smallest: int) -> None:
    told = f"{name} fails on images of 3x32x32; the smallest that it takes are {smallest}x{smallest} ("
    assert told in refused({"torchvision": name})


def test_torchvision_takes_one_channel_or_three() -> None:
    line = "network.torchvision: resnet18 takes 3 channels, or 1; these images have 2"
    assert refused({"torchvision": "resnet18"}, input_shape=(2, 32, 32), mean=[0, 0], std=[1, 1]) == line


def test_a_users_checkpoint_needs_no_prefix() -> None:
    network = build(Network.model_validate(own("without_questions")), **SMALL)
    state = {"1.weight": torch.ones(5, 48), "1.bias": torch.zeros(5)}
    fill(network, state, Path("x.pt"))
    assert torch.equal(network.network[1].weight, state["1.weight"])  # type: ignore[index, union-attr]


def test_a_users_own_name_may_be_network() -> None:
    """Taken for kdflow's prefix, it was refused."""
    network = build(Network.model_validate(own("Wrapped")), **SMALL)
    state = {"network.1.weight": torch.ones(5, 48), "network.1.bias": torch.zeros(5)}
    fill(network, state, Path("x.pt"))
    assert torch.equal(network.get_parameter("network.network.1.weight"), state["network.1.weight"])


@pytest.fixture
def torchvision_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A file where torchvision keeps resnet18's weights, of 1,000 classes."""
    from torchvision.models import resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = resnet18(weights=None).state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    return state


PRETRAINED = Network(torchvision="resnet18", weights="IMAGENET1K_V1")


def inner(network: nn.Module) -> dict[str, Tensor]:
    return network.get_submodule("network").state_dict()


def test_pretrained_weights_survive_and_the_replaced_head_is_drawn(
    torchvision_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    network = build(PRETRAINED, **RGB)
    initialise(network, stream(0, "student"))
    first = {name: tensor.clone() for name, tensor in inner(network).items()}
    head = ["fc.weight", "fc.bias"]
    assert all(torch.equal(first[name], torchvision_weights[name]) for name in first if name not in head)
    assert first["fc.weight"].shape == (5, 512)
    initialise(network, stream(1, "student"))
    assert not torch.equal(inner(network)["fc.weight"], first["fc.weight"])
    initialise(network, stream(0, "student"))
    assert all(torch.equal(tensor, first[name]) for name, tensor in inner(network).items())
    assert replaced_head(PRETRAINED, 5) == "resnet18 knew 1000 classes: its last layer is drawn anew for 5"


def test_of_as_many_classes_every_weight_is_kept(torchvision_weights: dict[str, Tensor]) -> None:
    network = build(PRETRAINED, **RGB | {"classes": 1000})
    initialise(network, stream(0, "student"))
    assert all(torch.equal(tensor, torchvision_weights[name]) for name, tensor in inner(network).items())
    assert replaced_head(PRETRAINED, 1000) == ""


def test_a_stored_network_comes_back_without_the_file(torchvision_weights: dict[str, Tensor], tmp_path: Path) -> None:
    description = Description(
        network=PRETRAINED, input_shape=(3, 32, 32), classes=list("abcde"), mean=[0.5] * 3, std=[0.2] * 3
    )
    network = description.build()
    save_network(tmp_path, description, network.state_dict())
    (tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth").unlink()
    loaded, _ = load_network(tmp_path)
    assert all(torch.equal(tensor, inner(network)[name]) for name, tensor in inner(loaded).items())
    with pytest.raises(UserError, match="was built without them"):
        initialise(loaded, stream(0, "student"))


def test_weights_that_are_not_on_the_disk_are_told_where_from_and_where_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    told = refused({"torchvision": "resnet18", "weights": "DEFAULT"})
    assert told.startswith(
        "network.weights: DEFAULT of resnet18 are not on this disk and kdflow downloads no weights: "
    )
    assert told.endswith(
        f"resnet18-f37072fd.pth belongs at {tmp_path / 'hub' / 'checkpoints' / 'resnet18-f37072fd.pth'}"
    )
    assert refused({"torchvision": "resnet18", "weights": "V2"}).startswith("network.weights: 'V2' is not known; ")
    assert refused({"timm": "resnet18", "weights": "V2"}).startswith("network.weights: 'V2' is not known; allowed: DEF")


def test_poisoned_weights_are_refused_and_nothing_runs(torchvision_weights: dict[str, Tensor], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"fc.weight": Poison(canary)}, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    assert "not readable as these pretrained weights without running code from it" in refused(PRETRAINED.model_dump())
    assert not canary.exists()


class Poison:
    """Unpickling it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return (os.mkdir, (str(self.canary),))


def test_timms_weights_are_read_from_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    network = Network(timm="resnet10t", weights="c3_in1k")
    told = refused(network.model_dump())
    place = Path(told.rpartition(" belongs at ")[2])
    assert place.is_relative_to(tmp_path)
    place.parent.mkdir(parents=True)
    state = timm.create_model("resnet10t").state_dict()
    save_file(state, place)
    built = build(network, **RGB | {"input_shape": (1, 32, 32), "mean": [0.5], "std": [0.2]})
    initialise(built, stream(0, "student"))
    mine = inner(built)
    stem = "conv1.0.weight"  # timm sums it over the channels for grey images
    assert torch.allclose(mine[stem], state[stem].sum(dim=1, keepdim=True), atol=1e-6)
    others = [name for name in mine if name not in (stem, "fc.weight", "fc.bias")]
    assert all(torch.equal(mine[name], state[name]) for name in others)
    assert replaced_head(network, 5) == "resnet10t knew 1000 classes: its last layer is drawn anew for 5"
