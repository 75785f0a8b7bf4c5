"""The layout of images in memory: faster where it is known to be taken, and never a matter of values."""

import pytest
import torch
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.evaluation import predict
from kdmodels.experiment import Network, Recipe
from kdmodels.knowledge import distil_knowledge
from kdmodels.networks import build
from kdmodels.networks.layout import layout_of
from kdmodels.randomness import stream
from kdmodels.terms import Term
from kdmodels.training import fit

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


def test_what_measures_and_stores_knowledge_lays_its_images_out_and_what_trains_does_not() -> None:
    """In training batch norm would sum in float32, one value after the other."""
    net, split, seen = network(3, conv=[4]), images(3), []
    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, given: seen.append(given[0].stride()[1] == 1) if isinstance(module, nn.Conv2d) else None
    )
    try:
        predict(net, split)
        knowledge = distil_knowledge(net, split)
        assert seen == [True, True]
        seen.clear()
        fit(net, [Term(loss="soft_targets")], Recipe(epochs=1, batch=4), split, split, seeds=[0],
            knowledge=(knowledge, knowledge))  # fmt: skip
    finally:
        hook.remove()
    assert len(seen) >= 4
    assert not any(seen)
