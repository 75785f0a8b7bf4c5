"""Properties of the losses on logits: derivation, stability, invariances, and a test for each well-known slip."""

import math
import statistics
import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad_and_value, vmap

from kdmodels import losses

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
HALF = (torch.float16, torch.bfloat16)

# Of (student logits, teacher logits, labels), so that one test fits all.
LOSSES: dict[str, Loss] = {
    "hard_labels": lambda s, t, y: losses.hard_labels(s, y),
    "label_smoothing": lambda s, t, y: losses.label_smoothing(s, y),
    "soft_targets": lambda s, t, y: losses.soft_targets(s, t),
    "reverse_soft_targets": lambda s, t, y: losses.reverse_soft_targets(s, t),
    "logit_regression": lambda s, t, y: losses.logit_regression(s, t),
    "standardised_soft_targets": lambda s, t, y: losses.standardised_soft_targets(s, t),
    "decoupled": losses.decoupled,
    "dist": lambda s, t, y: losses.dist(s, t),
}
DISTILLED = sorted(set(LOSSES) - {"hard_labels", "label_smoothing"})
SOFTENED = sorted(set(DISTILLED) - {"logit_regression"})

every_loss = pytest.mark.parametrize("name", LOSSES)
every_distilled = pytest.mark.parametrize("name", DISTILLED)
every_softened = pytest.mark.parametrize("name", SOFTENED)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER, LABELS = drawn(0, 6, 5), 3 * drawn(1, 6, 5), torch.tensor([0, 4, 2, 2, 1, 3])


def gradient(loss: Callable[[Tensor], Tensor], student: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    loss(student).sum().backward()
    assert student.grad is not None
    return student.grad


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_gradient_of_soft_targets_is_temperature_times_the_difference_of_probabilities(temperature: float) -> None:
    found = gradient(partial(losses.soft_targets, teacher_logits=TEACHER, temperature=temperature), STUDENT)
    q, p = (STUDENT / temperature).softmax(dim=1), (TEACHER / temperature).softmax(dim=1)
    torch.testing.assert_close(found, temperature * (q - p), rtol=1e-9, atol=1e-12)


def test_the_gradient_of_soft_targets_tends_to_half_of_logit_regressions_for_zero_mean_logits() -> None:
    z, v = (each - each.mean(dim=1, keepdim=True) for each in (STUDENT, TEACHER))
    limit = (z - v) / 5
    at = [gradient(partial(losses.soft_targets, teacher_logits=v, temperature=t), z) for t in (1e2, 1e4)]
    errors = [(found - limit).abs().max().item() for found in at]
    assert errors[1] < errors[0] / 50  # falls as 1 / T
    torch.testing.assert_close(at[1], limit, rtol=0, atol=1e-3)
    torch.testing.assert_close(limit, gradient(lambda s: losses.logit_regression(s, v), z) / 2)


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def test_reverse_soft_targets_equal_a_plain_sum() -> None:
    pairs = zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)
    expected = [9 * kl(softmax(student, 3), softmax(teacher, 3)) for student, teacher in pairs]
    assert losses.reverse_soft_targets(STUDENT, TEACHER, temperature=3).tolist() == pytest.approx(expected)


def test_reverse_soft_targets_are_soft_targets_of_the_swapped_pair() -> None:
    swapped = losses.soft_targets(TEACHER, STUDENT, temperature=3)
    torch.testing.assert_close(losses.reverse_soft_targets(STUDENT, TEACHER, temperature=3), swapped)
    assert (swapped - losses.soft_targets(STUDENT, TEACHER, temperature=3)).abs().min() > 1e-3


def test_the_two_parts_of_decoupled_add_up_to_soft_targets() -> None:
    target = losses.decoupled(STUDENT, TEACHER, LABELS, alpha=1, beta=0, temperature=3)
    others = losses.decoupled(STUDENT, TEACHER, LABELS, alpha=0, beta=1, temperature=3)
    mass_on_others = 1 - (TEACHER / 3).softmax(dim=1)[torch.arange(6), LABELS]
    torch.testing.assert_close(target + mass_on_others * others, losses.soft_targets(STUDENT, TEACHER, temperature=3))


def test_standardise_equals_the_standard_library() -> None:
    for row, found in zip(STUDENT.tolist(), losses.standardise(STUDENT).tolist(), strict=True):
        mean, deviation = statistics.mean(row), statistics.stdev(row)
        assert found == pytest.approx([(z - mean) / (1e-7 + deviation) for z in row])


def test_standardised_soft_targets_are_the_composition() -> None:
    composed = losses.soft_targets(losses.standardise(STUDENT), losses.standardise(TEACHER), temperature=2)
    torch.testing.assert_close(losses.standardised_soft_targets(STUDENT, TEACHER), composed)
    assert (composed - losses.standardised_soft_targets(STUDENT, TEACHER, temperature=3)).abs().min() > 1e-4


def test_dist_equals_correlations_of_the_standard_library() -> None:
    q, p = (STUDENT / 3).softmax(dim=1), (TEACHER / 3).softmax(dim=1)
    rows = [statistics.correlation(a, b) for a, b in zip(q.tolist(), p.tolist(), strict=True)]
    columns = [statistics.correlation(a, b) for a, b in zip(q.T.tolist(), p.T.tolist(), strict=True)]
    expected = 9 * (2 * (1 - statistics.mean(rows)) + 5 * (1 - statistics.mean(columns)))
    found = losses.dist(STUDENT, TEACHER, beta=2, gamma=5, temperature=3)
    assert found.item() == pytest.approx(expected, rel=1e-5)  # for the 1e-8 in the denominator


# The traps of the published versions, one by one.


def test_trap_logit_regression_is_not_invariant_to_a_shift() -> None:
    assert (losses.logit_regression(STUDENT + 1, TEACHER) - losses.logit_regression(STUDENT, TEACHER)).abs().min() > 0.1


def test_trap_the_temperature_squared_is_in_every_softened_loss() -> None:
    for loss in (losses.soft_targets, losses.reverse_soft_targets, partial(losses.decoupled, labels=LABELS)):
        small, large = (gradient(partial(loss, teacher_logits=TEACHER, temperature=t), STUDENT) for t in (50, 100))
        assert (large.norm() / small.norm()).item() == pytest.approx(1, abs=0.05)  # without it: 1/4
    once, twice = (losses.dist(z * STUDENT, z * TEACHER, temperature=z) for z in (1, 2))
    assert twice.item() == pytest.approx(4 * once.item())


def test_trap_two_classes_standardised_give_no_signal() -> None:
    student, teacher = torch.tensor([[0.3, 2.0], [5.0, 1.0]]), torch.tensor([[1.0, 9.0], [0.0, 1.0]])
    found = gradient(lambda z: losses.standardised_soft_targets(z, teacher), student)
    assert found.abs().max() < 1e-5
    of_another_order = 4 * math.sqrt(1 / 2) * math.tanh(math.sqrt(1 / 8))  # logits of plus and minus the root of 1/2
    assert losses.standardised_soft_targets(student, teacher).tolist() == pytest.approx([0, of_another_order], abs=1e-6)


@every_softened
def test_trap_equal_logits_have_a_finite_slope(name: str) -> None:
    found = gradient(lambda z: LOSSES[name](z, TEACHER, LABELS), torch.full_like(STUDENT, 0.1))
    assert found.norm() < 1e3


def test_trap_standardise_needs_two_classes() -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        losses.standardise(STUDENT[:, :1])


def test_trap_decoupled_with_two_classes_has_no_part_among_the_rest() -> None:
    student, teacher, labels = STUDENT[:, :2], TEACHER[:, :2], torch.tensor([0, 1, 0, 1, 0, 1])
    assert (losses.decoupled(student, teacher, labels, alpha=0) == 0).all()
    torch.testing.assert_close(losses.decoupled(student, teacher, labels), losses.soft_targets(student, teacher))


def test_trap_decoupled_with_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than two classes"):
        losses.decoupled(STUDENT[:, :1], TEACHER[:, :1], torch.zeros(6, dtype=torch.int64))


def test_trap_decoupled_does_not_take_the_log_of_a_softmax() -> None:
    student, teacher = torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, 0.0]])
    value = losses.decoupled(student, teacher, torch.tensor([0]), alpha=1, beta=1, temperature=1)
    assert value.item() == pytest.approx(1e4 + 1e4)  # (label, rest) 1e4 from the teacher's; second to third: 1e4


def test_trap_dist_of_a_uniform_student_counts_as_uncorrelated() -> None:
    student = torch.zeros(6, 5)
    assert losses.dist(student, TEACHER.float(), beta=2, gamma=3, temperature=4).item() == pytest.approx(16 * (2 + 3))
    assert (gradient(lambda z: losses.dist(z, TEACHER.float()), student) == 0).all()


def test_trap_dist_of_one_example_has_no_correlation_over_examples() -> None:
    student, teacher = STUDENT[:1], TEACHER[:1]
    rows = losses.dist(student, teacher, beta=2, gamma=0, temperature=4)
    assert losses.dist(student, teacher, beta=2, gamma=3, temperature=4).item() == pytest.approx(rows.item() + 16 * 3)
    by_rows = gradient(lambda z: losses.dist(z, teacher, gamma=0), student)
    torch.testing.assert_close(gradient(lambda z: losses.dist(z, teacher), student), by_rows)


def test_trap_labels_are_not_probabilities() -> None:
    probabilities = TEACHER.softmax(dim=1)
    for loss in (losses.hard_labels, losses.label_smoothing, partial(losses.decoupled, STUDENT)):
        with pytest.raises(ValueError, match="expected one label per example"):
            loss(STUDENT, probabilities)


# What holds for all of them.

COARSE = st.sampled_from([-1e4, -1.0, 0.0, 1.0, 1e4]) | st.integers(-640, 640).map(lambda n: n / 64)
FINE = COARSE | st.just(1e-7) | st.floats(-1e4, 1e4, width=16)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Draw logits of up to 1e4 with ties, constant rows, one example or two classes, in any precision."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(2, 4)))
    dtype = draw(st.sampled_from([*HALF, torch.float32, torch.float64]))
    size = math.prod(shape)
    logits = st.lists(COARSE if dtype == torch.float16 else FINE, min_size=size, max_size=size)
    student, teacher = (torch.tensor(draw(logits), dtype=dtype).view(shape) for _ in range(2))
    labels = draw(st.lists(st.integers(0, shape[1] - 1), min_size=shape[0], max_size=shape[0]))
    return student, draw(st.sampled_from([teacher, student.clone()])), torch.tensor(labels)


@every_loss
@settings(max_examples=60)
@given(batch=batches())
def test_value_and_gradient_are_finite_and_the_value_not_negative(
    name: str, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    student, teacher, labels = batch
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = LOSSES[name](student, teacher, labels)
            found = gradient(lambda z: LOSSES[name](z, teacher, labels), student)
        assert value.isfinite().all()
        assert found.isfinite().all()
        assert value.min() >= -1e-3 * max(1.0, value.abs().max().item())


@every_loss
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_computed_as_float32(name: str, dtype: torch.dtype) -> None:
    student, teacher = STUDENT.to(dtype), TEACHER.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LOSSES[name](student, teacher, LABELS)
    assert value.dtype == torch.float32
    assert torch.equal(value, LOSSES[name](student.float(), teacher.float(), LABELS))


@every_softened
@settings(max_examples=25)
@given(shift=st.floats(-50, 50))
def test_a_constant_added_to_an_examples_logits_changes_nothing(name: str, shift: float) -> None:
    student, teacher = STUDENT + shift * torch.arange(6).unsqueeze(1), TEACHER - shift
    torch.testing.assert_close(LOSSES[name](student, teacher, LABELS), LOSSES[name](STUDENT, TEACHER, LABELS))


@every_loss
@settings(max_examples=25)
@given(order=st.permutations(range(5)))
def test_the_order_of_the_classes_changes_nothing(name: str, order: list[int]) -> None:
    labels = torch.tensor([order.index(int(label)) for label in LABELS])
    reordered = LOSSES[name](STUDENT[:, order], TEACHER[:, order], labels)
    torch.testing.assert_close(reordered, LOSSES[name](STUDENT, TEACHER, LABELS))


@every_loss
@settings(max_examples=25)
@given(order=st.permutations(range(6)))
def test_the_order_of_the_examples_changes_nothing(name: str, order: list[int]) -> None:
    value = LOSSES[name](STUDENT, TEACHER, LABELS)
    reordered = LOSSES[name](STUDENT[order], TEACHER[order], LABELS[order])
    torch.testing.assert_close(reordered, value[order] if value.ndim else value)


@settings(max_examples=25)
@given(scale=st.floats(0.1, 100), shift=st.floats(-50, 50))
def test_standardise_is_invariant_to_a_positive_scale_and_a_shift(scale: float, shift: float) -> None:
    moved = losses.standardise(STUDENT * scale + shift)
    torch.testing.assert_close(moved, losses.standardise(STUDENT), rtol=0, atol=1e-5)


@every_distilled
def test_zero_when_the_student_equals_the_teacher(name: str) -> None:
    tolerance = 1e-4 if name == "dist" else 1e-12  # for the 1e-8 in the correlation's denominator
    assert LOSSES[name](TEACHER, TEACHER, LABELS).abs().max() < tolerance
    assert gradient(lambda z: LOSSES[name](z, TEACHER, LABELS), TEACHER).abs().max() < tolerance


@every_softened
def test_not_zero_when_they_differ(name: str) -> None:
    assert LOSSES[name](STUDENT, TEACHER, LABELS).min() > 1e-3


@every_distilled
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    LOSSES[name](student, teacher, LABELS).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@every_distilled
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        LOSSES[name](STUDENT, TEACHER[:1], LABELS)


@pytest.mark.parametrize("name", ["hard_labels", "label_smoothing", "decoupled"])
def test_labels_that_would_broadcast_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected one label per example"):
        LOSSES[name](STUDENT, TEACHER, LABELS[:1])


@pytest.mark.parametrize(
    "loss",
    [
        losses.soft_targets,
        losses.reverse_soft_targets,
        losses.standardised_soft_targets,
        partial(losses.decoupled, labels=LABELS),
        losses.dist,
    ],
)
@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(loss: Callable[..., Tensor], temperature: float) -> None:
    with pytest.raises(ValueError, match="not positive"):
        loss(STUDENT, TEACHER, temperature=temperature)


@every_loss
@pytest.mark.parametrize("stacked", [(0, None, None), (0, 0, 0)])
def test_stacked_replicas_equal_a_plain_loop(name: str, stacked: tuple[int | None, ...]) -> None:
    def step(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return grad_and_value(lambda z: LOSSES[name](z, teacher, labels).mean())(student)

    batch = (
        drawn(2, 3, 6, 5),
        TEACHER if stacked[1] is None else drawn(3, 3, 6, 5),
        LABELS if stacked[2] is None else torch.stack([LABELS, LABELS.flip(0), LABELS.roll(1)]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an operator without a batching rule warns and runs as a loop
        found = vmap(step, in_dims=stacked)(*batch)
    replicas = [
        step(*(each if dim is None else each[r] for each, dim in zip(batch, stacked, strict=True))) for r in range(3)
    ]
    for one, other in zip(found, zip(*replicas, strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(other))
