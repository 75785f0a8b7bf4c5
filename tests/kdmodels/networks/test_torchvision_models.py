"""Models of torchvision."""

from tests.support.external import refused


def test_torchvision_takes_one_channel_or_three() -> None:
    line = "network.torchvision: resnet18 takes images of 1 or 3 channels, got 2"
    assert refused({"torchvision": "resnet18"}, input_shape=(2, 32, 32), mean=[0, 0], std=[1, 1]) == line
