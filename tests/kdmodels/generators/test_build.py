"""Generators that are built from a description, stored and loaded."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from kdmodels.experiment.generator import Generator
from kdmodels.generators.build import DESCRIPTION, GeneratorDescription, build_trainer, load_generator, save_generator
from kdmodels.generators.gan import ImageGenerator
from kdmodels.generators.vae import Vae

KINDS = {
    "vae": {"hidden": [6], "latent": 3},
    "gan": {"hidden": [6], "latent": 3, "discriminator": [5]},
    "data_free": {"channels": 4, "latent": 3, "steps": 2},
}
JUDGE = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def describe(kind: str, *, conditional: bool = False) -> GeneratorDescription:
    generator = Generator.model_validate({kind: KINDS[kind], "epochs": 1, "conditional": conditional})
    return GeneratorDescription(generator=generator, input_shape=(1, 4, 4), classes=["a", "b"])


@pytest.mark.parametrize(("kind", "conditional"), [*((kind, False) for kind in KINDS), ("vae", True), ("gan", True)])
def test_a_stored_generator_makes_the_same_images(tmp_path: Path, kind: str, conditional: bool) -> None:
    description = describe(kind, conditional=conditional)
    network = build_trainer(description, JUDGE, seed=1).modules["generator"].eval()
    save_generator(tmp_path, description, dict(network.state_dict()))
    loaded, stored = load_generator(tmp_path)
    assert stored == description
    assert isinstance(loaded, Vae if kind == "vae" else ImageGenerator)
    codes, labels = torch.randn(2, 3), torch.tensor([0, 1])
    assert torch.equal(loaded(codes, labels), network(codes, labels))


def test_the_initial_weights_depend_only_on_the_seed() -> None:
    torch.manual_seed(0)
    first = build_trainer(describe("gan"), JUDGE, seed=1)
    torch.manual_seed(1)
    same, other = (build_trainer(describe("gan"), JUDGE, seed=seed) for seed in (1, 2))
    for name, module in first.modules.items():
        for parameter, equal, different in zip(
            module.parameters(), same.modules[name].parameters(), other.modules[name].parameters(), strict=True
        ):
            assert torch.equal(parameter, equal)
            assert not torch.equal(parameter, different)


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    description = describe("vae")
    save_generator(tmp_path, description, dict(description.build().state_dict()))
    content = json.loads((tmp_path / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps(content | {"code": "import os"}))
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        load_generator(tmp_path)
