"""Networks as users write them, valid and invalid. Experiments in tests name them `tests.support.networks:Name`."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Tokens, attention, layer norm and a bare parameter, none of which kdflow's own networks have."""

    def __init__(self, num_classes: int, in_channels: int, input_shape: tuple[int, int, int], width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, kernel_size=input_shape[1] // 4, stride=input_shape[1] // 4)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(width, 2, width, dropout=0.0, batch_first=True)])
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.position  # (N, 16, width)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.classifier(self.norm(tokens).mean(dim=1))


def by_function(classes: int, hidden: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(hidden), nn.ReLU(), nn.Linear(hidden, classes))


def without_questions() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5))


def raising(classes: int) -> nn.Module:
    raise ValueError(f"no network for {classes} classes\nand more lines")


def no_network() -> str:
    return "resnet"


def three_classes() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


class Dictionary(nn.Module):
    """Return a dictionary instead of logits."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": images}


def narrow() -> nn.Module:
    return nn.Conv2d(7, 1, 3)


class Tied(nn.Module):
    """Two layers that share one parameter."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.one = nn.Linear(48, classes)
        self.other = nn.Linear(48, classes)
        self.other.weight = self.one.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.one(images.flatten(1)) + self.other(images.flatten(1))


class Wrapped(nn.Module):
    """A module whose attribute has the name that kdflow uses for a user's network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = without_questions()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class Frozen(nn.Module):
    """A network with a frozen body and a trainable head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(64, 8).requires_grad_(False)
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.flatten(1)))


answer = 42


class Spectral(nn.Module):
    """A classifier of the eigenvalues of a square grey image, which ONNX can't compute."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        square = images[:, 0] + images[:, 0].transpose(1, 2)
        return self.head(torch.linalg.eigvalsh(square))


class Rows(nn.Module):
    """Predict the class whose row of the image is brightest: (N, 1, 3, 3) to (N, classes)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.row = nn.Linear(3, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.row(images.mean(dim=3).squeeze(1))


class Softmax(nn.Module):
    """A classifier that returns probabilities instead of logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)).softmax(dim=1)


def with_any_keyword(**kwargs: int) -> nn.Module:
    """Return a network like those of RepDistiller, whose functions pass all keyword arguments on."""
    return _linear(**kwargs)


def with_another_name(**kwargs: int) -> nn.Module:
    """Return a network whose number of classes has a name that kdflow does not know."""
    return nn.Sequential(nn.Flatten(), nn.Linear(48, _only_outputs(**kwargs)))


def _linear(num_classes: int = 1000, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, num_classes))


def _only_outputs(outputs: int = 1000) -> int:
    return outputs
