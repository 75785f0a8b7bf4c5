"""A served file that gives something else than its network is never stored."""

import pytest
import torch
from torch import Tensor, nn

import kdmodels.serving.agreement as module
from kdmodels.data.split import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import Description
from kdmodels.serving.agreement import Agreement, served_file
from kdmodels.serving.model_file import ServedModel

SPLIT = Split(torch.rand(700, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(700).long())


def test_the_figures_are_of_real_examples(description: Description) -> None:
    network = description.build().eval()
    content, agreement = served_file(description, network, {}, SPLIT)
    assert (agreement.examples, agreement.agreement) == (512, 1)
    assert 0 <= agreement.difference < 1e-5
    assert ServedModel(content)(SPLIT.images.numpy()).shape == (700, 3)


def test_another_networks_weights_are_an_error(description: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    network, other = description.build().eval(), description.build().eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 1
    fill = module.fill
    monkeypatch.setattr(module, "fill", lambda graph, state, metadata: fill(graph, other.state_dict(), metadata))
    with pytest.raises(
        UserError, match=r"^the ONNX file does not give the logits of the trained network: logits differ"
    ):
        served_file(description, network, {}, SPLIT)


def test_logits_that_are_no_numbers_do_not_agree() -> None:
    assert not Agreement(examples=1, agreement=1.0, difference=float("nan"), tolerance=1.0).holds


class Gated(nn.Module):
    """Its graph depends on a weight: with a positive gate it doubles, else it does not."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, classes)
        self.double = False

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(images.mean(dim=(2, 3)))
        return 2 * logits if self.double else logits


def test_a_graph_that_does_not_fit_the_network_is_exported_from_the_network() -> None:
    description = Description(
        network=Network(module=f"{__name__}:Gated"),
        input_shape=(3, 8, 8), classes=["a", "b"], mean=[0.3] * 3, std=[0.2] * 3,
    )  # fmt: skip
    network = description.build().eval()
    served_file(description, network, {}, SPLIT)
    network.get_submodule("network").double = True
    content, agreement = served_file(description, network, {}, SPLIT)
    assert agreement.difference < 1e-5
    with torch.no_grad():
        assert torch.allclose(
            torch.from_numpy(ServedModel(content)(SPLIT.images.numpy())), network(SPLIT.images), atol=1e-5
        )
