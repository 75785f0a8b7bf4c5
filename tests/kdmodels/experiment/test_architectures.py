"""The table of named networks."""

import pytest

from kdmodels.experiment.architectures import ARCHITECTURES

WITHOUT_DEPTH = ("mobilenetv2", "shufflenetv1", "shufflenetv2")


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in WITHOUT_DEPTH])
def test_the_depth_in_the_name_is_that_of_the_table(name: str) -> None:
    architecture = ARCHITECTURES[name]
    blocks = sum(map(len, architecture.stages))
    if architecture.family == "vgg":  # convolutions and 3 further layers in the paper's count
        assert name == f"vgg{blocks + 3}"
    else:  # the convolutions of all blocks, the stem and the head; wide networks also count 2 shortcuts
        depth = (3 if architecture.family == "bottleneck" else 2) * blocks + (4 if architecture.family == "wide" else 2)
        assert name.split("_")[1:2] == [str(depth)] or name.startswith(f"resnet{depth}")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_has_a_paper(name: str) -> None:
    assert ARCHITECTURES[name].paper
