"""Places that can't be tapped are told in one line, before anything trains."""

import pytest
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from kdmodels.errors import UserError
from kdmodels.networks import find_tap


class Attentive(nn.Module):
    """Attention gives a pair, and torch reads its projection's weights without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2)  # (N, C, 4)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(dim=1))


@pytest.mark.parametrize(("at", "line"), [
    ("attention", "at: attention: gives a tuple, not one tensor; allowed: another module"),
    ("attention.out_proj", "at: attention.out_proj: the network does not call this module by itself; allowed: another"),
])  # fmt: skip
def test_what_gives_no_tensor_is_told(at: str, line: str) -> None:
    network = Attentive()
    with pytest.raises(UserError, match=line):
        find_tap(network, at).shape(network, (1, 2, 2))
    assert find_tap(network, "last").shape(network, (1, 2, 2)) == (4,)


def test_the_blocks_of_a_plain_sequence_end_with_its_activations() -> None:
    """README's own example, a student of the user's beside a ResNet, had no `middle`."""
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.SiLU(), nn.Flatten())
    network = nn.ModuleDict({"normalise": nn.Identity(), "network": nn.Sequential(*inner, nn.LazyLinear(2))})
    assert [find_tap(network, at).module for at in ("first", "middle", "deepest")] == ["network.1"] * 2 + ["network.4"]


def test_maps_with_their_channels_last_are_refused() -> None:
    """Their height was taken for channels, in silence."""
    small = SwinTransformer(patch_size=[4, 4], embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=[2, 2])
    with pytest.raises(UserError, match=r"gives maps \(B, H, W, C\), which no loss takes; allowed: last"):
        find_tap(small, "first").shape(small, (3, 32, 32))
    assert find_tap(small, "last").shape(small, (3, 32, 32)) == (16,)
