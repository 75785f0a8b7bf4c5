"""Which code and weights identify a network."""

from importlib.metadata import version

import pytest

from kdmodels.experiment import Network
from kdmodels.networks.source import sources


@pytest.mark.parametrize("network", [{"mlp": [8]}, {"conv": [4]}, {"name": "resnet20"}], ids=str)
def test_a_network_of_kdflow_needs_no_further_source(network: dict[str, object]) -> None:
    assert sources(Network.model_validate(network)) == {}


def test_a_network_of_a_library_is_identified_by_the_librarys_version() -> None:
    assert sources(Network.model_validate({"torchvision": "resnet18"})) == {
        "torchvision version": version("torchvision")
    }


def test_a_users_network_is_identified_by_the_digest_of_its_module() -> None:
    digests = sources(Network(module="tests.support.networks:Attention"))
    assert list(digests) == ["tests.support.networks"]
    assert len(digests["tests.support.networks"]) == 16
