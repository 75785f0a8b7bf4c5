"""Losses on labels where some labels are not known, are mixed, or count more than others."""

import pytest
import torch
import torch.nn.functional as F

from kdmodels.data import Split
from kdmodels.data.split import Joined
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import LiveTeacher
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import Distiller, fit
from kdmodels.training.batches import Batch

IMAGES = torch.rand(4, 1, 4, 4, generator=generator_for(0, "images"))
INDICES = torch.arange(4)


def student() -> torch.nn.Sequential:
    return build(Network(mlp=[6]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])


def value(
    labels: list[int], mixed: dict[str, torch.Tensor] | None = None, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the mean of cross entropy as a step takes it."""
    terms = [Term(loss="hard_labels")]
    distiller = Distiller(
        student(), terms, Recipe(epochs=1, batch=4), input_shape=(1, 4, 4), teacher_shapes={},
        labels=torch.tensor(labels),
    ).train()  # fmt: skip
    distiller.objective.class_weights = weights
    logits, values = distiller(Batch(IMAGES, torch.tensor(labels), INDICES, {}, mixed or {}))
    return logits, values["hard_labels"].mean()


def test_the_mean_is_over_the_known_labels() -> None:
    logits, mean = value([2, -1, 0, -1])
    assert torch.allclose(mean, F.cross_entropy(logits[[0, 2]], torch.tensor([2, 0])))


def test_a_batch_without_any_label_has_the_value_zero_and_no_gradient() -> None:
    logits, mean = value([-1, -1, -1, -1])
    assert mean.item() == 0
    assert torch.autograd.grad(mean, logits)[0].abs().sum() == 0


def test_only_the_known_part_of_a_mixed_image_counts() -> None:
    mixed = {"labels": torch.tensor([1, 1, -1, -1]), "share": torch.tensor([0.75, 0.5, 0.25, 1.0])}
    logits, mean = value([0, -1, 2, -1], mixed)
    of = F.cross_entropy(logits.repeat_interleave(3, dim=0), torch.arange(3).repeat(4), reduction="none").view(4, 3)
    parts = 0.75 * of[0, 0] + 0.25 * of[0, 1] + 0.5 * of[1, 1] + 0.25 * of[2, 2]
    assert torch.allclose(mean, parts / (0.75 + 0.25 + 0.5 + 0.25))


def test_each_of_two_mixed_labels_has_the_weight_of_its_class() -> None:
    weights = torch.tensor([1.0, 2.0, 4.0])
    mixed = {"labels": torch.tensor([1, 1, 2, 0]), "share": torch.tensor([0.75, 0.5, 0.25, 1.0])}
    logits, mean = value([0, 2, 1, 2], mixed, weights)
    of = F.cross_entropy(logits.repeat_interleave(3, dim=0), torch.arange(3).repeat(4), reduction="none").view(4, 3)
    of = of * weights
    parts = [0.75 * of[0, 0] + 0.25 * of[0, 1], 0.5 * of[1, 2] + 0.5 * of[1, 1], 0.25 * of[2, 1] + 0.75 * of[2, 2]]
    assert torch.allclose(mean, (torch.stack([*parts, of[3, 2]])).mean())


def split(examples: int, purpose: str, *, labelled: bool) -> Split:
    generator = generator_for(1, purpose)
    pixels = torch.randint(256, (examples, 1, 4, 4), generator=generator, dtype=torch.uint8)
    labels = torch.randint(3, (examples,), generator=generator) if labelled else torch.full((examples,), -1)
    return Split(pixels, labels, top=255)


TRAIN, MORE = split(30, "train", labelled=True), split(20, "more", labelled=False)
TAUGHT = Joined(TRAIN.pixels, torch.cat([TRAIN.labels, MORE.labels]), 255, first=TRAIN, second=MORE)


def test_joined_splits_give_the_images_of_both() -> None:
    rows = torch.tensor([[0, 30], [49, 29]])
    expected = torch.stack([TRAIN.images[0], MORE.images[0], MORE.images[19], TRAIN.images[29]]).view(2, 2, 1, 4, 4)
    assert len(TAUGHT) == 50
    assert torch.equal(TAUGHT.batch(rows), expected)


@pytest.mark.parametrize("seeds", [[0], [0, 1]], ids=["alone", "stacked"])
def test_unlabelled_images_are_used_through_the_teacher_alone(seeds: list[int]) -> None:
    teacher = LiveTeacher(student())

    def trained(terms: list[Term], part: Split) -> list[dict[str, float]]:
        recipe = Recipe(epochs=2, batch=16)
        replicas = fit(student(), terms, recipe, part, TRAIN, seeds=seeds, knowledge=(teacher, teacher))
        return [replica.figures for replica in replicas]

    both = [Term(loss="hard_labels"), Term(loss="soft_targets", hyperparameters={"temperature": 2})]
    assert all(figures["train/hard_labels"] > 0 for figures in trained(both, TAUGHT))
    taught = [Term(loss="logit_regression")]
    assert trained(taught, TAUGHT) != trained(taught, TRAIN)
