"""Every kind of network has one normal form."""

from typing import Any

import jsonschema
import pytest

from kdmodels.experiment.network import Network


@pytest.mark.parametrize(("given", "normal"), [
    ({"mlp": [8]}, {"mlp": [8], "dropout": 0.0}),
    ({"conv": [8]}, {"conv": [8]}),
    ("resnet20", {"name": "resnet20"}),
    ("my.networks:Net", {"module": "my.networks:Net", "arguments": {}}),
    ("./nets.py:Small", {"module": "nets:Small", "arguments": {}}),
    ("my/networks.py:Net.deep", {"module": "my.networks:Net.deep", "arguments": {}}),
    ({"module": "a:B.c", "arguments": {"widths": [8, 16]}}, {"module": "a:B.c", "arguments": {"widths": [8, 16]}}),
    ({"torchvision": "resnet18"}, {"torchvision": "resnet18", "weights": None}),
    ({"timm": "resnet10t", "weights": "c3_in1k"}, {"timm": "resnet10t", "weights": "c3_in1k"}),
    ({"compact": {"block": "fire", "budget": 60000}}, {"compact": {"block": "fire", "budget": {"parameters": 60000}}}),
    ({"compact": {"block": "fire", "width": 8, "depth": 4, "budget": {"latency_ms": 2}}},
     {"compact": {"block": "fire", "width": 8, "depth": 4, "budget": {"latency_ms": 2.0}}}),
], ids=str)  # fmt: skip
def test_every_kind_of_network_has_one_normal_form(given: object, normal: dict[str, Any]) -> None:
    network = Network.model_validate(given)
    assert network.model_dump(mode="json") == normal
    assert Network.model_validate(normal) == network
    jsonschema.validate(normal, Network.model_json_schema())
