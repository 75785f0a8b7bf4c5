"""Mistakes of published code, each with its wrong value and the right value."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor, nn

from kdmodels import losses
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.networks import build
from kdmodels.training import Distiller
from kdmodels.training.batches import Batch


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = drawn(0, 6, 5), 3 * drawn(1, 6, 5)


def test_slip_kl_is_given_probabilities_where_log_probabilities_belong() -> None:
    """`F.kl_div(softmax(z_s), softmax(z_t))` falls below zero, and is not least where the two agree."""
    q, p = softmax(STUDENT.numpy() / 4, axis=1), softmax(TEACHER.numpy() / 4, axis=1)
    right = 16 * rel_entr(p, q).sum(axis=1)
    slip = 16 * F.kl_div(torch.tensor(q), torch.tensor(p), reduction="none").sum(dim=1)
    found = losses.soft_targets(STUDENT, TEACHER, temperature=4)
    assert found.tolist() == pytest.approx(right.tolist())
    assert slip.max() < 0 < found.min()
    of_equals = 16 * F.kl_div(torch.tensor(p), torch.tensor(p), reduction="none").sum(dim=1)
    assert of_equals.abs().min() > 1
    assert losses.soft_targets(TEACHER, TEACHER).abs().max() < 1e-12


def test_slip_a_mask_of_minus_1000_does_not_hide_the_label_of_large_logits() -> None:
    """The DKD authors' code subtracts 1000 from the label's logit to remove it. A label ahead by more remains."""
    student, teacher = torch.tensor([[9000.0, 1.0, 0.0]]), torch.tensor([[9000.0, 0.0, 2.0]])
    labels, mask = torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]])
    masked_q, masked_p = (z - 1000 * mask for z in (student, teacher))
    slip = F.kl_div(masked_q.log_softmax(dim=1), masked_p.softmax(dim=1), reduction="none").sum().item()
    log_q, log_p = log_softmax([1.0, 0.0]), log_softmax([0.0, 2.0])
    right = (softmax([0.0, 2.0]) * (log_p - log_q)).sum()
    assert slip == pytest.approx(0, abs=1e-6)  # the label has all the mass, and the others teach nothing
    assert losses.decoupled(student, teacher, labels, alpha=0, beta=1, temperature=1).item() == pytest.approx(right)
    assert right > 0.5


def test_slip_cross_entropy_is_applied_to_features() -> None:
    """Features at least as wide as the number of classes could silently pass for logits."""
    network = build(Network(mlp=[7]), input_shape=(1, 4, 4), classes=5, mean=[0.5], std=[0.25])
    terms = [Term(loss="hard_labels"), Term.model_validate({"hint": {"at": "last"}})]
    joined = Distiller(
        network,
        terms,
        Recipe(epochs=1, batch=6),
        input_shape=(1, 4, 4),
        teacher_shapes={"last": (7,)},
        labels=torch.arange(6) % 3,
    ).eval()
    images, labels = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(2)), torch.arange(6) % 5
    with torch.no_grad():
        _, values = joined(Batch(images, labels, torch.arange(6), {"last": torch.zeros(6, 7)}, {}))
        logits, features = network(images), nn.Sequential(*list(network)[:-1])(images)
    right, slip = ([-log_softmax(row)[y] for row, y in zip(z.numpy(), labels, strict=True)] for z in (logits, features))
    assert values["hard_labels"].tolist() == pytest.approx(right, rel=1e-5)
    assert all(abs(one - other) > 1e-3 for one, other in zip(right, slip, strict=True))


@pytest.mark.parametrize("loss", ["hard_labels", "label_smoothing"])
def test_slip_cross_entropy_at_a_place_of_features_is_refused(loss: str) -> None:
    with pytest.raises(ValidationError, match=f"{loss} takes no features"):
        Term.model_validate({loss: {"at": "last"}})
    with pytest.raises(ValueError, match="expected one label per example"):  # and maps are no logits
        getattr(losses, loss)(torch.ones(2, 5, 4, 4), torch.tensor([0, 1]))
