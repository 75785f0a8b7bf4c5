"""What a student is shown is bit for bit what the teacher was shown, stored or live."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.data.augment import Augmentation
from kdmodels.errors import UserError
from kdmodels.experiment import Data, Network, Recipe, Term
from kdmodels.knowledge import LOGITS, Knowledge, LiveTeacher, distil_knowledge
from kdmodels.losses import decoupled, hard_labels, label_smoothing
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import fit
from kdmodels.training.batches import Batch, Batches
from kdmodels.training.distiller import Distiller

EVERYTHING: list[dict[str, Any]] = [{"jitter": 1}, {"flip": True}, {"randaugment": {}}, {"mixup": 0.5}]


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    pixels = torch.randint(256, (examples, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.randint(3, (examples,), generator=generator), top=255)


TRAIN, VALIDATION = split(50, "train"), split(20, "validation")


def augmentation(*operations: dict[str, Any], views: int = 0) -> Augmentation:
    return Augmentation(
        Data.model_validate({"source": "digits", "augment": list(operations)}).augment, seed=3, views=views
    )


class Echo(nn.Module):
    """Its logits are the pixels that it is shown, as far as half precision goes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 16)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        return pixels.half().float() + 0 * self.head(pixels)


def stored(teacher: nn.Module, shown: Augmentation) -> list[Knowledge]:
    return [distil_knowledge(teacher, shown.view(TRAIN, number + 1)) for number in range(shown.views or 1)]


@pytest.mark.parametrize(
    "operations", [EVERYTHING, [{"crop": 1}, {"cutmix": 1.0}], []], ids=["mixup", "cutmix", "none"]
)
@pytest.mark.parametrize("views", [0, 1, 3])
@pytest.mark.parametrize("seeds", [[0], [0, 1]], ids=["alone", "stacked"])
def test_a_student_that_echoes_is_never_apart_from_a_teacher_that_does(
    operations: list[dict[str, Any]], views: int, seeds: list[int]
) -> None:
    """Their difference is exactly zero in every batch only if both were shown the same bits."""
    shown = augmentation(*operations, views=views)
    live = LiveTeacher(Echo())
    knowledge = (stored(Echo(), shown), distil_knowledge(Echo(), VALIDATION)) if views else (live, live)
    if views and not operations:
        knowledge = (knowledge[0][:1], knowledge[1])  # type: ignore[index, assignment]
    replicas = fit(
        Echo(), [Term(loss="logit_regression")], Recipe(epochs=5, batch=16), TRAIN, VALIDATION,
        seeds=seeds, knowledge=knowledge, augmentation=shown,
    )  # fmt: skip
    assert [[figures["train/logit_regression"] for figures in replica.history] for replica in replicas] == [
        [0.0] * 5
    ] * len(seeds)
    assert replicas[0].figures["val/logit_regression"] == 0.0


def test_knowledge_of_another_seed_differs() -> None:
    """Were views not compared bit for bit, the test above could not fail."""
    shown = augmentation(*EVERYTHING, views=3)
    others = Augmentation(shown.operations, 4, 3)
    knowledge = (stored(Echo(), others), distil_knowledge(Echo(), VALIDATION))
    (replica,) = fit(
        Echo(), [Term(loss="logit_regression")], Recipe(epochs=1, batch=16), TRAIN, VALIDATION,
        seeds=[0], knowledge=knowledge, augmentation=shown,
    )  # fmt: skip
    assert replica.figures["train/logit_regression"] > 1e-3


def test_a_batch_has_each_replicas_examples_and_the_teachers_outputs_for_them() -> None:
    shown = augmentation(*EVERYTHING, views=2)
    rows = torch.tensor([[3, 9, 3], [0, 49, 20]])
    for source in (stored(Echo(), shown), LiveTeacher(Echo())):
        batches = Batches(TRAIN, source, shown)
        batch = batches.batch(rows, 4)
        assert torch.equal(batch.images, shown.view(TRAIN, 2).batch(rows))  # epochs 2 and 4 show the second view
        assert torch.equal(batch.teacher[LOGITS], batch.images.flatten(2).half().float())
        assert torch.equal(batch.labels, TRAIN.labels[rows])
        assert batch.mix["labels"].shape == batch.mix["share"].shape == (2, 3)
    assert not torch.equal(batch.images, batches.batch(rows, 1).images)


def test_validation_images_stay_as_they_are() -> None:
    rows = torch.arange(20)
    batch = Batches(VALIDATION).batch(rows)
    assert torch.equal(batch.images, VALIDATION.images)
    assert (batch.teacher, batch.mix) == ({}, {})


def test_more_views_than_the_knowledge_has_is_a_users_error() -> None:
    shown = augmentation({"jitter": 1}, views=2)
    knowledge = (stored(Echo(), shown)[:1], distil_knowledge(Echo(), VALIDATION))
    with pytest.raises(UserError, match="knowledge of 1 views does not fit an augmentation of 2"):
        fit(Echo(), [Term(loss="logit_regression")], Recipe(epochs=1), TRAIN, VALIDATION, seeds=[0],
            knowledge=knowledge, augmentation=shown)  # fmt: skip


def test_every_loss_on_labels_is_the_mean_over_both_mixed_labels() -> None:
    network = build(Network(mlp=[5]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    terms = [Term(loss="hard_labels"), Term(loss="label_smoothing", hyperparameters={"epsilon": 0.1}),
             Term(loss="decoupled", hyperparameters={"alpha": 1.0, "beta": 8.0, "temperature": 4.0})]  # fmt: skip
    joined = Distiller(
        network, terms, Recipe(epochs=1, batch=16), input_shape=(1, 4, 4), teacher_shapes={}, labels=TRAIN.labels
    ).eval()
    rows = torch.arange(8)
    images, labels, teacher = (
        TRAIN.batch(rows),
        TRAIN.labels[rows],
        torch.randn(8, 3, generator=generator_for(0, "teacher")),
    )
    mixed = {"labels": labels.roll(1), "share": torch.linspace(0, 1, 8)}
    logits, values = joined(Batch(images, labels, rows, {LOGITS: teacher}, mixed))
    soft = mixed["share"].view(-1, 1) * F.one_hot(labels, 3) + (1 - mixed["share"].view(-1, 1)) * F.one_hot(
        labels.roll(1), 3
    )
    assert torch.allclose(values["hard_labels"], F.cross_entropy(logits, soft, reduction="none"), atol=1e-6)
    assert torch.allclose(
        values["label_smoothing"], F.cross_entropy(logits, soft, reduction="none", label_smoothing=0.1), atol=1e-6
    )
    for row, share in enumerate(mixed["share"]):
        one, other = (decoupled(logits, teacher, given)[row] for given in (labels, labels.roll(1)))
        assert values["decoupled"][row].item() == pytest.approx((share * one + (1 - share) * other).item(), rel=1e-5)
    _, plain = joined(Batch(images, labels, rows, {LOGITS: teacher}, {}))
    assert torch.equal(plain["hard_labels"], hard_labels(logits, labels))
    assert torch.equal(plain["label_smoothing"], label_smoothing(logits, labels, epsilon=0.1))


def test_a_linear_probe_is_fitted_on_mixed_labels_too() -> None:
    network = build(Network(mlp=[5]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    term = Term.model_validate({"similarity_preserving": {"at": "last"}})
    joined = Distiller(
        network,
        [term],
        Recipe(epochs=1, batch=16),
        input_shape=(1, 4, 4),
        teacher_shapes={"last": (5,)},
        labels=TRAIN.labels,
    )
    rows = torch.arange(8)
    mixed = {"labels": TRAIN.labels[rows].roll(1), "share": torch.full((8,), 0.25)}
    teacher = {LOGITS: torch.zeros(8, 3), "last": torch.ones(8, 5)}
    logits, values = joined.eval()(Batch(TRAIN.batch(rows), TRAIN.labels[rows], rows, teacher, mixed))
    one, other = (F.cross_entropy(logits, labels, reduction="none") for labels in (TRAIN.labels[rows], mixed["labels"]))
    assert torch.allclose(values["probe"], 0.25 * one + 0.75 * other, atol=1e-6)


def test_contrastive_memory_is_indexed_by_the_images_numbers() -> None:
    """Augmented or not, the rows of the banks that move are those of the batch's examples."""
    student = build(Network(mlp=[5]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    teacher = build(Network(mlp=[8]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    live = LiveTeacher(teacher, ["last"])
    term = Term.model_validate({"contrastive_representation": {"weight": 0.8, "negatives": 4}})
    (replica,) = fit(student, [Term(loss="hard_labels"), term], Recipe(epochs=2, batch=16), TRAIN, VALIDATION,
                     seeds=[0], knowledge=(live, live), augmentation=augmentation(*EVERYTHING))  # fmt: skip
    assert replica.diverged is None
    assert replica.own["contrastive_representation.0.student_bank"].shape == (50, 128)


def test_two_trainings_with_augmentation_are_bit_identical_and_another_seed_is_not() -> None:
    def weights(seed: int) -> Tensor:
        shown = Augmentation(augmentation(*EVERYTHING).operations, seed)
        student = build(Network(mlp=[5]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
        (replica,) = fit(student, [Term(loss="hard_labels")], Recipe(epochs=3, batch=16), TRAIN, VALIDATION,
                         seeds=[0], augmentation=shown)  # fmt: skip
        return torch.cat([tensor.flatten() for tensor in replica.state.values()])

    torch.manual_seed(1)
    first = weights(3)
    torch.manual_seed(2)
    assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)
