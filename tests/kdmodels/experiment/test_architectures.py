"""The table of named networks."""

import pytest

from kdmodels.experiment.architectures import ARCHITECTURES


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_depth_in_the_name_is_that_of_the_table(name: str) -> None:
    architecture = ARCHITECTURES[name]
    blocks = sum(map(len, architecture.stages))
    if architecture.family == "vgg":  # convolutions and 3 further layers in the paper's count
        assert name == f"vgg{blocks + 3}"
    else:  # 2 convolutions per block, the stem and the head; wide networks also count 2 shortcuts
        depth = 2 * blocks + (2 if architecture.family == "resnet" else 4)
        assert name.split("_")[1:2] == [str(depth)] or name.startswith(f"resnet{depth}")
    assert architecture.paper
