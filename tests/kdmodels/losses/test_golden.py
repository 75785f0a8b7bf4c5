"""Each loss equals its published reference: value and gradient norm, in float64 and in float32.

`tests/golden_losses.json` was made by running the methods' reference implementations; its `about` entry says how.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdmodels import losses
from tests.kdmodels.losses.test_golden_features import CASES as CASES_OF_MAPS

GOLDEN = json.loads((Path(__file__).parents[2] / "golden_losses.json").read_text())
LABELS = torch.tensor(GOLDEN["about"]["inputs"]["y"])


def det(shape: tuple[int, ...], a: float, b: float, scale: float = 1.0) -> Tensor:
    """Return the file's deterministic inputs, as defined by its `about` entry."""
    t = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (scale * (torch.sin(a * t + b) + 0.5 * torch.cos(0.37 * a * t + 2 * b))).reshape(shape)


STUDENT, TEACHER = det((8, 10), 1.7, 0.3, 2.0), det((8, 10), 2.3, 1.1, 4.0)
STUDENT_EMBEDDINGS, TEACHER_EMBEDDINGS = det((8, 16), 0.9, 0.2), det((8, 16), 1.3, 0.7)
STUDENT_MAP, TEACHER_MAP = det((8, 12, 8, 8), 0.73, 0.2).relu(), det((8, 12, 8, 8), 0.79, 0.6).relu()
LAST_STUDENT_MAP, LAST_TEACHER_MAP = det((8, 24, 4, 4), 0.87, 0.3).relu(), det((8, 24, 4, 4), 0.93, 0.7).relu()
# The entry `flow_of_solution (maps without relu)` has the values of the maps after ReLU, in spite of its name.
STUDENT_MAPS = [det((8, 6, 16, 16), 0.61, 0.1).relu(), STUDENT_MAP, LAST_STUDENT_MAP]
TEACHER_MAPS = [det((8, 6, 16, 16), 0.67, 0.5).relu(), TEACHER_MAP, LAST_TEACHER_MAP]


def joined(maps: list[Tensor]) -> Tensor:
    """Return the maps as one tensor, whose gradient norm is that of all maps."""
    return torch.cat([each.flatten() for each in maps])


def split(together: Tensor) -> list[Tensor]:
    parts = together.split([each.numel() for each in STUDENT_MAPS])
    return [part.view(each.shape) for part, each in zip(parts, STUDENT_MAPS, strict=True)]


CASES: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {
    "hard_labels": (STUDENT, lambda z: losses.hard_labels(z, LABELS)),
    "label_smoothing eps=0.1": (STUDENT, lambda z: losses.label_smoothing(z, LABELS, epsilon=0.1)),
    "soft_targets T=4": (STUDENT, lambda z: losses.soft_targets(z, TEACHER.to(z), temperature=4)),
    "soft_targets T=20": (STUDENT, lambda z: losses.soft_targets(z, TEACHER.to(z), temperature=20)),
    "soft_targets T=1 with teacher zt (mutual learning)": (
        STUDENT,
        lambda z: losses.soft_targets(z, TEACHER.to(z), temperature=1),
    ),
    "logit_regression": (STUDENT, lambda z: losses.logit_regression(z, TEACHER.to(z))),
    "hint (plain mean square)": (STUDENT_MAP, lambda f: losses.hint(f, TEACHER_MAP.to(f))),
    "standardised soft_targets T=2": (
        STUDENT,
        lambda z: losses.soft_targets(losses.standardise(z), losses.standardise(TEACHER.to(z)), temperature=2),
    ),
    "decoupled alpha=1 beta=8 T=4": (
        STUDENT,
        lambda z: losses.decoupled(z, TEACHER.to(z), LABELS, alpha=1, beta=8, temperature=4),
    ),
    "decoupled alpha=1 beta=1 T=4": (
        STUDENT,
        lambda z: losses.decoupled(z, TEACHER.to(z), LABELS, alpha=1, beta=1, temperature=4),
    ),
}

BATCH_CASES: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {
    "dist beta=1 gamma=1 T=1": (STUDENT, lambda z: losses.dist(z, TEACHER.to(z), beta=1, gamma=1, temperature=1)),
    "dist beta=1 gamma=1 T=4": (STUDENT, lambda z: losses.dist(z, TEACHER.to(z), beta=1, gamma=1, temperature=4)),
    "relational_distance": (STUDENT_EMBEDDINGS, lambda e: losses.relational_distance(e, TEACHER_EMBEDDINGS.to(e))),
    "relational_angle": (STUDENT_EMBEDDINGS, lambda e: losses.relational_angle(e, TEACHER_EMBEDDINGS.to(e))),
    "relational 25*distance + 50*angle": (
        STUDENT_EMBEDDINGS,
        lambda e: (
            25 * losses.relational_distance(e, TEACHER_EMBEDDINGS.to(e))
            + 50 * losses.relational_angle(e, TEACHER_EMBEDDINGS.to(e))
        ),
    ),
    "probabilistic_transfer": (
        STUDENT_EMBEDDINGS,
        lambda e: losses.probabilistic_transfer(e, TEACHER_EMBEDDINGS.to(e)),
    ),
    "correlation_congruence": (
        STUDENT_EMBEDDINGS,
        lambda e: losses.correlation_congruence(e, TEACHER_EMBEDDINGS.to(e)),
    ),
    "similarity_preserving on the last maps": (
        LAST_STUDENT_MAP,
        lambda f: losses.similarity_preserving(f, LAST_TEACHER_MAP.to(f)),
    ),
    "flow_of_solution (maps without relu)": (
        joined(STUDENT_MAPS),
        lambda f: losses.flow_of_solution(split(f), [each.to(f) for each in TEACHER_MAPS]),
    ),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", CASES | BATCH_CASES)
def test_value_and_gradient_equal_the_reference(name: str, dtype: torch.dtype, tolerance: float) -> None:
    inputs, loss = (CASES | BATCH_CASES)[name]
    student = inputs.to(dtype, copy=True).requires_grad_()
    value = loss(student)
    assert value.shape == ((8,) if name in CASES else ())
    value.mean().backward()
    assert student.grad is not None
    assert value.mean().item() == pytest.approx(GOLDEN["trusted"][name]["value"], rel=tolerance)
    assert student.grad.norm().item() == pytest.approx(GOLDEN["trusted"][name]["grad_l2"], rel=tolerance)


SLIPS = {  # and what they are slips of
    "soft_targets T=4, KLDivLoss default mean (K times too small)": "soft_targets T=4",
    "label smoothing eps/(K-1)": "label_smoothing eps=0.1",
    "standardised with population std": "standardised soft_targets T=2",
}


def test_every_reference_is_used() -> None:
    assert set(CASES) | set(BATCH_CASES) | set(CASES_OF_MAPS) == set(GOLDEN["trusted"])
    assert set(SLIPS) == set(GOLDEN["wrong_on_purpose"])
    assert set(GOLDEN) == {"about", "trusted", "wrong_on_purpose"}


@pytest.mark.parametrize(("slip", "right"), SLIPS.items())
def test_differs_from_the_well_known_mistake(slip: str, right: str) -> None:
    inputs, loss = CASES[right]
    assert loss(inputs).mean().item() != pytest.approx(GOLDEN["wrong_on_purpose"][slip]["value"], rel=1e-6)


@pytest.mark.parametrize("loss", [losses.soft_targets, losses.logit_regression, losses.hint])
def test_no_gradient_reaches_the_teacher(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [losses.soft_targets, losses.logit_regression, losses.hint])
def test_zero_when_the_student_equals_the_teacher(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert loss(TEACHER, TEACHER).abs().max() < 1e-12


@pytest.mark.parametrize("loss", [losses.soft_targets, losses.logit_regression, losses.hint])
def test_shapes_that_would_broadcast_are_refused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        loss(STUDENT, TEACHER[:1])


def test_soft_targets_do_not_overflow_at_large_logits() -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = losses.soft_targets(student, torch.tensor([[-1e4, 1e4, 0.0]]), temperature=1)
    value.sum().backward()
    assert value.item() == pytest.approx(2e4)
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="not positive"):
        losses.soft_targets(STUDENT, TEACHER, temperature=temperature)


def test_epsilon_must_be_a_proportion() -> None:
    with pytest.raises(ValueError, match="outside"):
        losses.label_smoothing(STUDENT, LABELS, epsilon=1.0)
