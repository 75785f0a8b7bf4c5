"""Models of timm."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kdmodels.experiment import Network
from kdmodels.networks import build, initialise, replaced_head
from kdmodels.randomness import generator_for
from tests.support.external import RGB, refused, state_of_external


def test_timms_weights_are_read_from_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    network = Network(timm="resnet10t", weights="c3_in1k")
    message = refused(network.model_dump())
    place = Path(message.rpartition(" to ")[2])
    assert place.is_relative_to(tmp_path)
    place.parent.mkdir(parents=True)
    state = timm.create_model("resnet10t").state_dict()
    save_file(state, place)
    built = build(network, **RGB | {"input_shape": (1, 32, 32), "mean": [0.5], "std": [0.2]})
    initialise(built, generator_for(0, "student"))
    loaded = state_of_external(built)
    stem = "conv1.0.weight"  # timm sums it over the channels for grey images
    assert torch.allclose(loaded[stem], state[stem].sum(dim=1, keepdim=True), atol=1e-6)
    others = [name for name in loaded if name not in (stem, "fc.weight", "fc.bias")]
    assert all(torch.equal(loaded[name], state[name]) for name in others)
    assert replaced_head(network, 5) == "resnet10t was trained on 1000 classes: its last layer is new, for 5"
