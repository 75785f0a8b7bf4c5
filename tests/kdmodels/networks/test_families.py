"""What every family of networks has in common: it trains, is tapped, exported, stored, and drawn from a generator."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kdmodels.experiment import Network
from kdmodels.experiment.architectures import BLOCKS
from kdmodels.networks import Description, build, find_tap, initialise, load_network, save_network
from kdmodels.randomness import generator_for

COMPACT = [{"compact": {"block": block, "width": 4, "depth": 4}} for block in BLOCKS]
FAMILIES: list[Any] = [
    {"mlp": [8]},
    {"conv": [4, 6]},
    "resnet8x4",
    "wrn_16_1",
    "vgg8",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2",
    *COMPACT,
    {"torchvision": "resnet18"},
    {"timm": "resnet10t"},
    {"module": "tests.support.networks:Attention", "arguments": {"width": 8}},
]
EXPORTED = [
    raw
    for raw in FAMILIES
    if raw not in COMPACT[:-1] and raw not in ("resnet8x4", "mobilenetv2", "shufflenetv2", {"mlp": [8]})
]  # seconds each


def described(raw: object, size: int = 16, channels: int = 3) -> Description:
    return Description(
        network=Network.model_validate(raw),
        input_shape=(channels, size, size),
        classes=list("abcde"),
        mean=[0.5] * channels,
        std=[0.2] * channels,
    )


def drawn(raw: object, seed: int = 0) -> nn.Sequential:
    network = described(raw).build()
    initialise(network, generator_for(seed, "student"))
    return network


@pytest.mark.parametrize("raw", FAMILIES, ids=str)
def test_each_network_initialises_learns_and_is_stored(raw: object, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    network, again, other = drawn(raw), drawn(raw), drawn(raw, seed=1)
    states = [one.state_dict() for one in (network, again, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())

    images, labels = torch.rand(8, 3, 16, 16, generator=generator_for(0, "images")), torch.arange(8) % 5
    assert torch.equal(before, torch.get_rng_state())
    first, last = trained(network, images, labels)
    assert last < first

    network.eval()
    save_network(tmp_path, described(raw), network.state_dict())
    loaded, description = load_network(tmp_path, ["tests.support.networks"])
    assert description == described(raw)
    assert torch.equal(loaded(images), network(images))


@pytest.mark.parametrize("raw", EXPORTED, ids=str)
def test_each_network_is_exported_for_any_batch_size(raw: object) -> None:
    network, images = drawn(raw).eval(), torch.rand(8, 3, 16, 16, generator=generator_for(0, "images"))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (images[:2],), dynamic_shapes=({0: batch},))
    assert torch.allclose(program.module()(images), network(images), atol=1e-4)


def trained(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """The loss before and after a few steps of Adam."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    with torch.random.fork_rng():  # some have dropout of their own
        torch.manual_seed(0)
        for _ in range(6):
            loss = cross_entropy(network.train()(images), labels)
            optimizer.zero_grad()
            loss.backward()
            assert all(parameter.grad is not None for parameter in network.parameters())
            optimizer.step()
            losses.append(loss.item())
    return losses[0], losses[-1]


@pytest.mark.parametrize("size", [8, 11, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("raw", ["resnet20", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1", *COMPACT], ids=str)
def test_built_in_networks_take_small_images_with_any_channels(raw: object, channels: int, size: int) -> None:
    network = described(raw, size, channels).build().eval()
    assert network(torch.zeros(2, channels, size, size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("raw", "at", "shape"),
    [
        ("resnet20", "first", (16, 32, 32)),
        ("resnet20", "middle", (32, 16, 16)),
        ("resnet20", "deepest", (64, 8, 8)),
        ("resnet20", "last", (64,)),
        ("wrn_40_2", "middle", (64, 16, 16)),
        ("wrn_40_2", "last", (128,)),
        ("vgg8", "first", (64, 32, 32)),
        ("vgg8", "middle", (256, 8, 8)),
        ("vgg8", "deepest", (512, 4, 4)),
        ("mobilenetv2", "first", (12, 16, 16)),
        ("mobilenetv2", "deepest", (160, 2, 2)),
        ("mobilenetv2", "last", (1280,)),
        ("shufflenetv1", "middle", (480, 8, 8)),
        ("shufflenetv2", "deepest", (464, 4, 4)),
        ({"compact": {"block": "depthwise", "width": 8, "depth": 8}}, "first", (8, 32, 32)),
        ({"compact": {"block": "depthwise", "width": 8, "depth": 8}}, "middle", (16, 16, 16)),
        ({"compact": {"block": "depthwise", "width": 8, "depth": 8}}, "deepest", (32, 4, 4)),
        ({"torchvision": "resnet18"}, "middle", (128, 4, 4)),
        ({"torchvision": "resnet18"}, "deepest", (512, 1, 1)),
        ({"torchvision": "mobilenet_v3_small"}, "first", (16, 16, 16)),
        ({"timm": "convnext_atto"}, "middle", (80, 4, 4)),
        ({"timm": "convnext_atto"}, "last", (320,)),
        ({"module": "tests.support.networks:Attention"}, "deepest", (16, 32)),
        ({"module": "tests.support.networks:Attention"}, "last", (32,)),
    ],
    ids=str,
)
def test_the_words_for_places_mean_the_same_in_every_family(raw: object, at: str, shape: tuple[int, ...]) -> None:
    network = described(raw, size=32).build()
    assert find_tap(network, at).shape(network, (3, 32, 32)) == shape


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("raw", ["resnet8x4", {"torchvision": "resnet18"}, {"timm": "resnet10t"}], ids=str)
def test_later_layers_do_not_overwrite_tapped_features(raw: object, training: bool) -> None:
    """`out += identity` ran over resnet18's `layer1.0.bn2`, and rectifiers over what they were given."""
    network = described(raw).build().train(training)
    images = torch.rand(2, 3, 16, 16, generator=generator_for(0, "images"))
    overwritten = 0
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            given: list[torch.Tensor] = []
            kept: list[torch.Tensor] = []
            hooks = [
                module.register_forward_hook(lambda _, inputs, output, given=given: given.append(output)),
                module.register_forward_hook(lambda _, inputs, output, kept=kept: kept.append(output.clone())),
            ]
            tap = find_tap(network, name)
            with tap.on(network) as caught:
                network(images)
            for hook in hooks:
                hook.remove()
            assert torch.equal(tap.one(caught), kept[0]), name
            overwritten += not torch.equal(given[0], kept[0])
    assert overwritten > 0 or raw == "resnet8x4"  # whose own layers overwrite nothing


def test_normalisation_comes_first_and_one_channel_stands_for_three() -> None:
    grey = build(Network(torchvision="resnet18"), input_shape=(1, 32, 32), classes=5, mean=[0.3], std=[0.5]).eval()
    seen = torch.nn.Module.__call__(grey.get_submodule("normalise"), torch.full((2, 1, 32, 32), 0.8))
    assert seen.shape == (2, 3, 32, 32)
    assert torch.allclose(seen, torch.ones(()))
