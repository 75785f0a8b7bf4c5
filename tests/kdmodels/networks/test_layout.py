"""Layout of images in memory: it changes speed, not values."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdmodels.data import Split
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Network, Recipe
from kdmodels.experiment.terms import Term
from kdmodels.knowledge import LiveTeacher, distil_knowledge
from kdmodels.networks import build
from kdmodels.networks.layout import layout_of
from kdmodels.randomness import generator_for
from kdmodels.training import Distiller, fit
from kdmodels.training.batches import Batch

CONVOLUTIONAL = [
    {"conv": [4, 8]},
    {"name": "resnet20"},
    {"compact": {"block": "depthwise", "budget": 9_000}},
    {"torchvision": "shufflenet_v2_x0_5"},  # which takes its maps' channels apart by `view`
]


class Views(nn.Module):
    """A user's network whose `view` fails on images whose channels lie last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 1024, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.head(maps.view(len(maps), -1))


def images(channels: int) -> Split:
    generator = generator_for(0, "images")
    pixels = torch.randint(256, (12, channels, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.arange(12) % 3, top=255)


def whole(split: Split) -> Batch:
    return Batch(split.images, split.labels, torch.arange(len(split)), {}, {})


def network(channels: int, **description: object) -> nn.Module:
    return build(
        Network.model_validate(description), input_shape=(channels, 32, 32), classes=3, mean=[0.5] * channels,
        std=[0.25] * channels,
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("description", CONVOLUTIONAL)
def test_channels_lie_last_and_logits_stay_the_same(channels: int, description: dict[str, object]) -> None:
    net, plain = network(channels, **description).eval(), images(channels).images
    laid_out = layout_of(net)(plain)
    assert laid_out.stride()[1] == 1  # also of one channel, where torch calls any layout contiguous
    assert torch.equal(laid_out, plain)
    torch.testing.assert_close(net(laid_out), net(plain), rtol=1e-4, atol=1e-5)


def test_images_are_not_laid_out_for_networks_without_convolutions_or_with_unknown_layers() -> None:
    plain = images(3).images
    for net in (network(3, mlp=[4]), nn.Sequential(Views())):
        assert layout_of(net)(plain) is plain


def test_a_network_opts_out() -> None:
    net, plain = network(3, conv=[4]), images(3).images
    net.channels_last = False  # type: ignore[assignment]
    assert layout_of(net)(plain) is plain


def test_a_network_with_torchs_batch_norm_is_trained_in_the_usual_layout_and_unchanged() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 3))
    plain = images(3).images
    assert layout_of(net, training=True)(plain) is plain
    assert layout_of(net)(plain).stride()[1] == 1
    Distiller(net, [Term(loss="hard_labels")], Recipe(epochs=1, batch=4), input_shape=(3, 32, 32),
              teacher_shapes={}, labels=torch.arange(12) % 3)  # fmt: skip
    assert type(net[1]) is nn.BatchNorm2d


def test_a_network_that_views_its_maps_can_be_trained_measured_and_a_teacher() -> None:
    net, split = nn.Sequential(Views()), images(3)
    (replica,) = fit(net, [Term(loss="hard_labels")], Recipe(epochs=1, batch=4), split, split, seeds=[0])
    assert replica.diverged is None
    torch.testing.assert_close(distil_knowledge(net, split).logits.float(), predict(net, split), rtol=1e-3, atol=1e-3)


@pytest.fixture
def seen() -> Iterator[list[tuple[bool, bool]]]:
    """Record, for every call of a convolution, whether it trained and whether the channels lay last."""
    calls: list[tuple[bool, bool]] = []
    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, given: (
            calls.append((module.training, given[0].stride()[1] == 1))
            if isinstance(module, nn.Conv2d) and len(given[0]) > 2  # else it is tried on blank images
            else None
        )
    )
    yield calls
    hook.remove()


def test_measuring_distilling_and_training_lay_out_images(seen: list[tuple[bool, bool]]) -> None:
    net, split = network(3, conv=[4]), images(3)
    predict(net, split)
    knowledge = distil_knowledge(net, split)
    live = LiveTeacher(net)
    for taught in ((knowledge, knowledge), (live, live)):
        fit(net, [Term(loss="soft_targets")], Recipe(epochs=1, batch=4), split, split, seeds=[0], knowledge=taught)
    assert set(seen) == {(False, True), (True, True)}


def test_bfloat16_and_compiled_steps_keep_the_usual_layout(seen: list[tuple[bool, bool]]) -> None:
    """In these the precise batch norm does not apply."""
    net, split = network(3, conv=[4]), images(3)
    recipe = Recipe(epochs=1, batch=4, precision="bfloat16")
    fit(net, [Term(loss="hard_labels")], recipe, split, split, seeds=[0])
    assert (True, False) in seen
    assert (True, True) not in seen
    seen.clear()
    Distiller(net, [Term(loss="hard_labels")], Recipe(epochs=1, batch=4, compile=True), input_shape=(3, 32, 32),
              teacher_shapes={}, labels=torch.arange(12) % 3).train()(whole(split))  # fmt: skip
    assert set(seen) == {(True, False)}


class Smooth(TorchFunctionMode):
    """Replace ReLU by a smooth function: rounding across ReLU's edge can change a gradient by a tenth."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return F.softplus(args[0]) if func is F.relu else func(*args, **(kwargs or {}))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("description", CONVOLUTIONAL)
def test_a_step_is_the_same_in_both_layouts(channels: int, description: dict[str, object]) -> None:
    """The gradients are equal up to rounding."""
    net, split, gradients = network(channels, **description), images(channels), []
    for compiled in (False, True):
        recipe = Recipe(epochs=1, batch=12, compile=compiled)
        distiller = Distiller(deepcopy(net), [Term(loss="hard_labels")], recipe, input_shape=(channels, 32, 32),
                              teacher_shapes={}, labels=torch.arange(12) % 3).train()  # fmt: skip
        with Smooth():
            _, values = distiller(whole(split))
        parts = torch.autograd.grad(values["hard_labels"].mean(), list(distiller.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    one, other = gradients
    assert (one - other).norm() < 1e-4 * other.norm()


@pytest.mark.parametrize("network", [Network(name="resnet8x4"), Network(name="wrn_16_2"), Network(name="vgg8")])
def test_networks_of_the_catalogue_are_trained_channels_last(network: Network) -> None:
    built = build(network, input_shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.25] * 3)
    images = layout_of(built, training=True)(torch.rand(2, 3, 32, 32))
    assert images.is_contiguous(memory_format=torch.channels_last)
