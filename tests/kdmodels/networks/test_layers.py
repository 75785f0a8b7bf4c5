"""Layers without hidden state: resizing, normalisation and dropout."""

import numpy as np
import torch
from PIL import Image

from kdmodels.networks.layers import Dropout, Normalise, Resize
from kdmodels.randomness import generator_for


def test_normalisation_is_per_channel() -> None:
    images = torch.rand(4, 2, 3, 3, generator=generator_for(0, "images"))
    normalised = Normalise([0.5, 0.1], [0.2, 2.0])(images)
    assert torch.allclose(normalised[:, 0], (images[:, 0] - 0.5) / 0.2)
    assert torch.allclose(normalised[:, 1], (images[:, 1] - 0.1) / 2.0)


def test_resizing_is_pillows_bilinear_filter() -> None:
    images = torch.rand(2, 3, 12, 9, generator=generator_for(0, "images"))
    for height, width in ((24, 20), (5, 4), (12, 30)):
        resized = Resize((height, width))(images)
        channels = [Image.fromarray(channel) for channel in images.flatten(0, 1).numpy()]
        expected = [np.asarray(channel.resize((width, height), Image.Resampling.BILINEAR)) for channel in channels]
        assert torch.allclose(resized.flatten(0, 1), torch.from_numpy(np.stack(expected)), atol=1e-5)


def test_dropout_scales_what_the_mask_keeps_and_is_inactive_in_evaluation() -> None:
    dropout = Dropout(0.25, width=1000)
    features = torch.ones(8, 1000)
    mask = dropout.draw(torch.arange(8), generator_for(0, "mask"))
    assert abs(mask.mean().item() - 0.75) < 0.02
    dropped = torch.func.functional_call(dropout, {"drawn": mask}, features)
    assert torch.equal(dropped, mask / 0.75)
    assert torch.equal(dropout.eval()(features), features)
