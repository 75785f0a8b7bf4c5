"""Stacked replicas of plain networks give what each of them gives by itself: the module, called."""

import pytest
import torch
from torch import Tensor, nn

from kdmodels.experiment import Network
from kdmodels.networks import build, find_tap
from kdmodels.networks.layers import Dropout, Normalise
from kdmodels.networks.stacked import is_stackable, run_stacked
from kdmodels.randomness import generator_for

SIGNATURE = {"input_shape": (2, 3, 3), "classes": 4, "mean": [0.5, 0.2], "std": [0.25, 0.5]}
REPLICAS, BATCH = 3, 5

NETWORKS = {
    "one layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, 4)),
    "built": lambda: build(Network(mlp=[6, 5]), **SIGNATURE),
    "built with dropout": lambda: build(Network(mlp=[6, 5], dropout=0.4), **SIGNATURE),
    "batch norm": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(18, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)
    ),
    "no biases": lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, 6, bias=False), nn.ReLU(), nn.Linear(6, 4)),
    "nested": lambda: nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(18, 6), nn.ReLU()), nn.Linear(6, 4)),
    "statistics of the batch alone": lambda: nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(18, track_running_stats=False), nn.Linear(18, 4)
    ),
    "batch norm without scales": lambda: nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(18, affine=False, momentum=0.3, eps=1e-3), nn.Linear(18, 4)
    ),
    "lines of pixels": lambda: nn.Sequential(
        Normalise([0.5, 0.2], [0.25, 0.5]), nn.Linear(3, 2), nn.ReLU(), nn.Flatten(2), nn.BatchNorm1d(2),
        nn.Linear(6, 5), nn.Flatten(start_dim=1, end_dim=-1), nn.Linear(10, 4),
    ),
}  # fmt: skip


def states(network: nn.Module) -> dict[str, Tensor]:
    """Random parameters and buffers of some replicas, stacked."""
    generator = generator_for(0, "states")

    def draw(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return torch.arange(REPLICAS)
        return torch.rand(REPLICAS, *tensor.shape, generator=generator) + 0.1 - 0.5 * (tensor.ndim == 2)

    return {name: draw(tensor) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_row_is_the_module_called(name: str, training: bool) -> None:
    network = NETWORKS[name]().train(training)
    assert is_stackable(network)
    stacked = states(network)
    parameters = [key for key, _ in network.named_parameters()]
    images = torch.rand(REPLICAS, BATCH, 2, 3, 3, generator=generator_for(0, "images"))
    drawn = {
        f"{path}.drawn": (torch.rand(REPLICAS, BATCH, layer.width, generator=generator_for(0, path)) > 0.4).float()
        for path, layer in network.named_modules()
        if isinstance(layer, Dropout)
    }
    last = [path for path, layer in network.named_modules() if isinstance(layer, nn.Linear)][-1]
    taps = {"last": find_tap(network, "last"), "logits": find_tap(network, last)}

    tensors = {key: tensor.clone().requires_grad_(key in parameters) for key, tensor in stacked.items()}
    outputs, features = run_stacked(network, tensors | drawn, images, taps)
    assert outputs.shape == (REPLICAS, BATCH, 4)
    gradients = torch.autograd.grad(outputs.square().sum(), [tensors[key] for key in parameters])
    for row in range(REPLICAS):
        alone = NETWORKS[name]().train(training)
        alone.load_state_dict({key: tensor[row] for key, tensor in stacked.items()})
        for path, mask in drawn.items():
            alone.get_submodule(path.removesuffix(".drawn")).drawn = mask[row]
        with taps["last"].on(alone) as caught:
            expected = alone(images[row])
        torch.testing.assert_close(outputs[row], expected)
        torch.testing.assert_close(features["last"][row], caught[0])
        torch.testing.assert_close(features["logits"][row], expected)
        expected.square().sum().backward()
        for gradient, (_, parameter) in zip(gradients, alone.named_parameters(), strict=True):
            torch.testing.assert_close(gradient[row], parameter.grad, rtol=1e-4, atol=1e-4)
        for key, buffer in alone.state_dict().items():
            torch.testing.assert_close(tensors[key][row].detach(), buffer)


def test_gradients_have_the_layout_of_the_weights() -> None:
    network = NETWORKS["built"]()
    tensors = {key: tensor.requires_grad_() for key, tensor in states(network).items()}
    outputs, _ = run_stacked(network, tensors, torch.rand(REPLICAS, BATCH, 2, 3, 3), {})
    weights = [tensor for key, tensor in tensors.items() if key.endswith("weight")]
    assert all(gradient.is_contiguous() for gradient in torch.autograd.grad(outputs.sum(), weights))


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3)),
        nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 2)),  # draws from torch's own generator
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4, momentum=None)),  # its average needs the count of batches
    ],
)
def test_networks_with_other_layers_are_not_stackable(network: nn.Module) -> None:
    assert not is_stackable(network)
