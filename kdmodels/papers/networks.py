"""Networks from papers that are not among the networks of kdflow. Files in flows/experiments/papers use them."""

from math import prod

from torch import nn


def shallow(input_shape: tuple[int, int, int], classes: int, hidden: int) -> nn.Sequential:
    """Return a network with one hidden layer of ReLU units.

    Experiment files load this network with `module`, like `factored`, so that both are trained by the same code.

    Args:
        hidden: Number of ReLU units.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(input_shape), hidden), nn.ReLU(), nn.Linear(hidden, classes))


def factored(input_shape: tuple[int, int, int], classes: int, linear: int, hidden: int) -> nn.Sequential:
    """Return a shallow network whose first layer is factored into two matrices, without ReLU between them.

    Args:
        linear: Number of linear units.
        hidden: Number of ReLU units.

    References:
        Ba and Caruana, "Do deep nets really need to be deep?", 2014, section 2.3.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(input_shape), linear, bias=False),
        nn.Linear(linear, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def tutorial_deep(classes: int) -> nn.Sequential:
    """Return the deep CNN of PyTorch's tutorial on knowledge distillation, for images of 3 x 32 x 32."""
    features = nn.Sequential(
        *_convolution(3, 128), *_convolution(128, 64), nn.MaxPool2d(2),
        *_convolution(64, 64), *_convolution(64, 32), nn.MaxPool2d(2),
    )  # fmt: skip
    head = (nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, classes))
    return nn.Sequential(features, nn.Flatten(), *head)


def tutorial_light(classes: int) -> nn.Sequential:
    """Return the light CNN of PyTorch's tutorial on knowledge distillation, for images of 3 x 32 x 32."""
    features = nn.Sequential(*_convolution(3, 16), nn.MaxPool2d(2), *_convolution(16, 16), nn.MaxPool2d(2))
    head = (nn.Linear(1024, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, classes))
    return nn.Sequential(features, nn.Flatten(), *head)


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.ReLU()
