"""The layout of images in memory: faster where it is known to be taken, and never a matter of values."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdmodels.data import Split
from kdmodels.evaluation import predict
from kdmodels.experiment import Network, Recipe
from kdmodels.knowledge import LiveTeacher, distil_knowledge
from kdmodels.networks import build
from kdmodels.networks.layout import layout_of
from kdmodels.randomness import stream
from kdmodels.terms import Term
from kdmodels.training import Distiller, fit

CONVOLUTIONAL = [
    {"conv": [4, 8]},
    {"name": "resnet20"},
    {"compact": {"block": "depthwise", "budget": 9_000}},
    {"torchvision": "shufflenet_v2_x0_5"},  # which takes its maps' channels apart by `view`
]


class Views(nn.Module):
    """A user's own network, as many are written: its `view` takes no images whose channels lie last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 1024, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.head(maps.view(len(maps), -1))


def images(channels: int) -> Split:
    generator = stream(0, "images")
    pixels = torch.randint(256, (12, channels, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.arange(12) % 3, top=255)


def network(channels: int, **description: object) -> nn.Module:
    return build(
        Network.model_validate(description), input_shape=(channels, 32, 32), classes=3, mean=[0.5] * channels,
        std=[0.25] * channels,
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("description", CONVOLUTIONAL)
def test_channels_lie_last_and_the_logits_are_the_same(channels: int, description: dict[str, object]) -> None:
    net, plain = network(channels, **description).eval(), images(channels).images
    laid_out = layout_of(net)(plain)
    assert laid_out.stride()[1] == 1  # also of one channel, where torch calls any layout contiguous
    assert torch.equal(laid_out, plain)
    torch.testing.assert_close(net(laid_out), net(plain), rtol=1e-4, atol=1e-5)


def test_images_stay_as_they_are_for_a_network_without_convolutions_and_for_a_users_own() -> None:
    plain = images(3).images
    for net in (network(3, mlp=[4]), nn.Sequential(Views())):
        assert layout_of(net)(plain) is plain


def test_a_users_network_that_views_its_maps_is_trained_measured_and_a_teacher() -> None:
    net, split = nn.Sequential(Views()), images(3)
    (replica,) = fit(net, [Term(loss="hard_labels")], Recipe(epochs=1, batch=4), split, split, seeds=[0])
    assert replica.diverged is None
    torch.testing.assert_close(distil_knowledge(net, split).logits.float(), predict(net, split), rtol=1e-3, atol=1e-3)


@pytest.fixture
def seen() -> Iterator[list[tuple[bool, bool]]]:
    """Of every convolution's call: whether it trained, and whether its images' channels lay last."""
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


def test_what_measures_stores_knowledge_and_trains_lays_its_images_out(seen: list[tuple[bool, bool]]) -> None:
    net, split = network(3, conv=[4]), images(3)
    predict(net, split)
    knowledge = distil_knowledge(net, split)
    live = LiveTeacher(net)
    for taught in ((knowledge, knowledge), (live, live)):
        fit(net, [Term(loss="soft_targets")], Recipe(epochs=1, batch=4), split, split, seeds=[0], knowledge=taught)
    assert set(seen) == {(False, True), (True, True)}


def test_bfloat16_and_compiled_steps_keep_the_usual_layout(seen: list[tuple[bool, bool]]) -> None:
    """For these torch's batch norm is not replaced."""
    net, split = network(3, conv=[4]), images(3)
    recipe = Recipe(epochs=1, batch=4, precision="bfloat16")
    fit(net, [Term(loss="hard_labels")], recipe, split, split, seeds=[0])
    assert (True, False) in seen
    assert (True, True) not in seen
    seen.clear()
    Distiller(net, [Term(loss="hard_labels")], input_shape=(3, 32, 32), teacher_shapes={},
              labels=torch.arange(12) % 3, batch=4,
              compiled=True).train()(split.images, split.labels, {}, split.labels)  # fmt: skip
    assert set(seen) == {(True, False)}


class Smooth(TorchFunctionMode):
    """ReLU without its edge: rounded to its other side, one activation changes a gradient by up to a tenth."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return F.softplus(args[0]) if func is F.relu else func(*args, **(kwargs or {}))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("description", CONVOLUTIONAL)
def test_a_step_is_the_same_in_both_layouts(channels: int, description: dict[str, object]) -> None:
    """But for rounding, that one step of SGD without momentum shows: the gradient, with all its layers' sums."""
    net, split, gradients = network(channels, **description), images(channels), []
    for compiled in (False, True):
        distiller = Distiller(deepcopy(net), [Term(loss="hard_labels")], input_shape=(channels, 32, 32),
                              teacher_shapes={}, labels=torch.arange(12) % 3, batch=12,
                              compiled=compiled).train()  # fmt: skip
        with Smooth():
            _, values = distiller(split.images, split.labels, {}, split.labels)
        parts = torch.autograd.grad(values["hard_labels"].mean(), list(distiller.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    one, other = gradients
    assert (one - other).norm() < 1e-4 * other.norm()
