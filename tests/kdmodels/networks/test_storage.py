"""Networks on disk: what is written is read back, and nothing that is read may run."""

from pathlib import Path

import pytest
import torch

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import Description, load_network, load_state, save_network
from kdmodels.networks.stacked import is_stackable
from kdmodels.networks.storage import DESCRIPTION
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


def test_a_folder_without_its_description_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=DESCRIPTION):
        load_network(tmp_path)
    (tmp_path / DESCRIPTION).write_text("{}")
    with pytest.raises(UserError, match="not the description"):
        load_network(tmp_path)
