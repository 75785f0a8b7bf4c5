"""Transfer sets that a generator makes, and noise: their images, their cache, and their place beside real images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdmodels.data import Dataset, load_dataset, made
from kdmodels.errors import UserError
from kdmodels.experiment import Data
from kdmodels.experiment.generator import Generator
from kdmodels.generators.build import GeneratorDescription
from kdmodels.generators.served import served_file
from kdmodels.serving.generator_file import ServedGenerator

COUNT = 1500  # more than a chunk


def generator(shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> ServedGenerator:
    torch.manual_seed(seed)
    settings = Generator.model_validate({"gan": {"hidden": [6], "latent": 3}, "epochs": 1, "conditional": True})
    description = GeneratorDescription(generator=settings, input_shape=shape, classes=list("0123456789"))
    return ServedGenerator(served_file(description, description.build().eval(), "run"))


@pytest.fixture(scope="module")
def served() -> ServedGenerator:
    return generator()


def dataset(served: ServedGenerator | None, **transfer: Any) -> Dataset:
    data = Data.model_validate({"source": "digits", "transfer": {"count": COUNT, **transfer}})
    return load_dataset(data, generator=served)


def test_made_images_are_those_of_the_generator(served: ServedGenerator) -> None:
    data = dataset(served, generator="vae")
    assert data.transfer is not None
    images, labels = data.transfer.images.numpy(), np.arange(COUNT) % 10
    assert images.shape == (COUNT, 1, 8, 8)
    for begin in (0, made.CHUNK):
        chunk = slice(begin, begin + made.CHUNK)
        expected = served.sample(labels[chunk], begin)
        np.testing.assert_allclose(images[chunk], expected, atol=0.5 / 16 + 1e-6)  # digits have values from 0 to 16
    assert (data.transfer.labels == -1).all()
    assert len(data.distillation_split) == len(data.train) + COUNT
    assert len(data.repeated) == len(data.distillation_split)


def test_images_are_made_once(served: ServedGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataset(served, generator="vae")
    monkeypatch.setattr(made, "_generated", lambda count, generator: pytest.fail("the images were made again"))
    again = dataset(served, generator="vae")
    assert again.digest == first.digest
    assert again.training_digest == dataset(None, noise="uniform").training_digest


def test_another_generator_and_another_count_make_another_data_set(served: ServedGenerator) -> None:
    digests = {
        dataset(served, generator="vae").distillation_digest,
        dataset(served, generator="vae", count=COUNT + 1).distillation_digest,
        dataset(generator(seed=1), generator="vae").distillation_digest,
        dataset(None, noise="uniform").distillation_digest,
        dataset(served, generator="vae", alone=True).distillation_digest,
    }
    assert len(digests) == 5


def test_alone_distilled_students_see_no_training_image(served: ServedGenerator) -> None:
    data = dataset(served, generator="vae", alone=True)
    split = data.distillation_split
    assert data.transfer is not None
    assert len(data.distilled) == 0
    assert len(split) == COUNT
    assert torch.equal(split.images, data.transfer.images)
    assert "distilled students learn from 0 labelled and 1500 unlabelled images" in data.notes


def test_noise_is_uniform_and_independent() -> None:
    data = dataset(None, noise="uniform")
    assert data.transfer is not None
    images = data.transfer.images.flatten(1)
    assert images.mean().item() == pytest.approx(0.5, abs=0.01)
    assert images.std().item() == pytest.approx((1 / 12 + 1 / 16**2 / 12) ** 0.5, abs=0.01)  # rounding adds a little
    correlations = torch.corrcoef(images.T) - torch.eye(64)
    assert correlations.abs().max() < 0.15
    assert len(torch.unique(images, dim=0)) == COUNT


def test_float_images_are_not_rounded(tmp_path: Path, served: ServedGenerator) -> None:
    values = np.random.default_rng(0)
    np.savez(tmp_path / "f.npz", images=values.random((60, 8, 8), np.float32), labels=np.arange(60) % 3)
    data = Data.model_validate({"source": str(tmp_path / "f.npz"), "transfer": {"generator": "vae", "count": 20}})
    loaded = load_dataset(data, generator=served)
    assert loaded.transfer is not None
    np.testing.assert_allclose(loaded.transfer.images.numpy(), served.sample(np.arange(20) % 10, 0), atol=1e-6)


def test_a_generator_of_other_images_is_refused() -> None:
    message = r"^data\.transfer\.generator: vae makes images of 1x4x4 \(channels, height, width\)\. Allowed: 1x8x8, as "
    with pytest.raises(UserError, match=message):
        dataset(generator((1, 4, 4)), generator="vae")
