"""FLOPs, against sums by hand."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from kdmodels.evaluation.flops import flops
from kdmodels.experiment import Network
from kdmodels.networks import build


def network(**layers: list[int]) -> nn.Sequential:
    return build(Network(**layers), input_shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.2]).eval()


def test_a_multiplication_and_its_addition_are_two_operations() -> None:
    assert flops(network(mlp=[32]), (1, 8, 8)) == 2 * (64 * 32 + 32 * 10)
    # 8x8 outputs of 9 weights to each of 4 channels, pooled to 4x4, 9 * 4 weights to each of 6 channels, a head.
    assert flops(network(conv=[4, 6]), (1, 8, 8)) == 2 * (64 * 9 * 4 + 16 * 36 * 6 + 6 * 10)


def test_a_grouped_convolution_costs_its_share() -> None:
    grouped = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert flops(grouped, (8, 4, 4)) == 2 * 16 * 9 * 8


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_16", "vit_b_32", "swin_t"])
def test_flops_agree_with_the_numbers_of_torchvision(name: str) -> None:
    """Published in 1e9 multiply-adds, three decimals. Attention was missing: vit_b_32 had 5.9 of 8.8e9 operations."""
    weights = torchvision.models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None).eval()
        counted = flops(model, (3, 224, 224))
    assert counted is not None
    assert counted / 2e9 == pytest.approx(weights.meta["_ops"], abs=6e-4)


class Sequence(nn.Module):
    """A recurrent or attention layer over the rows of an image: a sequence of L = 8 steps of D = 6 numbers."""

    def __init__(self, layer: nn.Module, *, itself: bool = False) -> None:
        super().__init__()
        self.layer, self.itself = layer, itself

    def forward(self, images: Tensor) -> Tensor:
        rows = images[:, 0]  # (1, L, D)
        outputs = self.layer(rows, rows, rows) if self.itself else self.layer(rows)
        return outputs[0] if isinstance(outputs, tuple) else outputs


L, D, H = 8, 6, 10
ATTENTION = 2 * (L * D * 3 * D + 2 * L * L * D + L * D * D)  # projections, scores and their sums, the last projection
SEQUENCES: dict[str, tuple[nn.Module, int]] = {
    "LSTM": (Sequence(nn.LSTM(D, H, batch_first=True)), 2 * L * 4 * H * (D + H)),
    "LSTM of two layers and directions": (
        Sequence(nn.LSTM(D, H, num_layers=2, bidirectional=True)), 2 * L * 2 * 4 * H * (D + H + 2 * H + H),
    ),
    "LSTM with a projection": (Sequence(nn.LSTM(D, H, proj_size=3)), 2 * L * (4 * H * (D + 3) + 3 * H)),
    "GRU": (Sequence(nn.GRU(D, H)), 2 * L * 3 * H * (D + H)),
    "RNN": (Sequence(nn.RNN(D, H)), 2 * L * H * (D + H)),
    "attention": (Sequence(nn.MultiheadAttention(D, 2, batch_first=True), itself=True), ATTENTION),
    "transformer": (
        Sequence(nn.TransformerEncoderLayer(D, 2, dim_feedforward=H, batch_first=True)), ATTENTION + 2 * L * 2 * D * H,
    ),
}  # fmt: skip


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
def test_recurrent_layers_and_attention_are_counted(name: str, freeze: bool) -> None:
    layer, expected = SEQUENCES[name]
    network = layer.eval().requires_grad_(not freeze)
    assert flops(network, (1, L, D)) == expected


class Fused(nn.Module):
    """A network that uses a fused kernel without a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(D, 2, dim_feedforward=H, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.layer(images[:, 0])


class OfAnExtension(nn.Module):
    """A network with an operator of another library."""

    def forward(self, images: Tensor) -> Tensor:
        return mine_times(images, images)


@torch.library.custom_op("mine::times", mutates_args=())
def mine_times(one: Tensor, other: Tensor) -> Tensor:
    return one @ other


class Spectrum(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.fft.rfft2(images).abs()


@pytest.mark.parametrize("network", [Fused(), OfAnExtension(), Spectrum()], ids=lambda each: type(each).__name__)
def test_flops_are_unknown_if_a_kernel_cannot_be_counted(network: nn.Module) -> None:
    assert flops(network.eval(), (1, D, D)) is None


def test_operators_without_products_do_not_make_flops_unknown() -> None:
    class Elementwise(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            larger = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
            normal = torch.nn.functional.normalize(larger.flatten(1))
            return torch.nn.functional.layer_norm(normal, normal.shape[1:]).softmax(1).cumsum(1)

    assert flops(Elementwise(), (1, 8, 8)) == 0


def test_counting_leaves_the_callers_gradient_mode_and_the_fast_path_as_they_were() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        flops(SEQUENCES["attention"][0].eval(), (1, L, D))
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert flops(SEQUENCES["attention"][0].eval(), (1, L, D)) == ATTENTION
        assert torch.is_inference_mode_enabled()
    assert torch.backends.mha.get_fastpath_enabled() == before
