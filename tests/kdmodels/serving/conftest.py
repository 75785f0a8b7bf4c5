"""A small network and its served file."""

from collections.abc import Callable

import pytest
import torch
from onnx import ModelProto

from kdmodels.experiment import Network
from kdmodels.networks import Description
from kdmodels.serving.graph import fill, graph_of, metadata_of

Made = Callable[[Description, int], bytes]


@pytest.fixture(scope="session")
def description() -> Description:
    return Description(
        network=Network(conv=[4, 6]), input_shape=(3, 8, 8), classes=["a", "b", "c"], mean=[0.3] * 3, std=[0.2] * 3
    )


@pytest.fixture(scope="session")
def content(description: Description) -> bytes:
    """An ONNX file as kdflow makes it, with moved running statistics."""
    torch.manual_seed(0)
    network = description.build()
    network(torch.rand(32, 3, 8, 8))
    return fill(graph_of(description), network.eval().state_dict(), metadata_of(description, "run-1"))


@pytest.fixture
def model(content: bytes) -> ModelProto:
    """The parsed file, to be changed."""
    return ModelProto.FromString(content)
