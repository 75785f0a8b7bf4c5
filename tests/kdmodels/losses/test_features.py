"""Properties of the losses on features and maps: plain loops, stability, invariances, replicas stacked."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

from kdmodels import losses

Loss = Callable[[Tensor, Tensor], Tensor]
HALF = [torch.float16, torch.bfloat16]


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    return losses.attention_transfer([student], [teacher])


LOSSES: dict[str, Loss] = {
    "hint": losses.hint,
    "cosine_features": losses.cosine_features,
    "attention_transfer": attention,
    "neuron_selectivity": losses.neuron_selectivity,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
pooling = pytest.mark.parametrize("loss", [attention, losses.neuron_selectivity])


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WIDE, TALL = (3, 4, 3, 2), (3, 7, 2, 2)  # more positions than channels, and the other way round
shapes = pytest.mark.parametrize("shape", [WIDE, TALL])


def gradient(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    loss(student, teacher).sum().backward()
    assert student.grad is not None
    return student.grad


# Plain loops, by the papers' formulas.


def plain_attention(maps: Tensor) -> list[float]:
    channels, height, width = maps.shape
    means = [
        sum(maps[c, i, j].item() ** 2 for c in range(channels)) / channels for i in range(height) for j in range(width)
    ]
    length = math.sqrt(sum(mean**2 for mean in means))
    return [mean / length for mean in means]


def plain_attention_transfer(student: Tensor, teacher: Tensor) -> float:
    pairs = list(zip(plain_attention(student), plain_attention(teacher), strict=True))
    return sum((one - other) ** 2 for one, other in pairs) / len(pairs)


def plain_kernel(ones: Tensor, others: Tensor) -> float:
    ones, others = (each.flatten(1) / each.flatten(1).norm(dim=1, keepdim=True) for each in (ones, others))
    return sum(one.dot(other).item() ** 2 for one in ones for other in others) / (len(ones) * len(others))


def plain_neuron_selectivity(student: Tensor, teacher: Tensor) -> float:
    return plain_kernel(student, student) + plain_kernel(teacher, teacher) - 2 * plain_kernel(student, teacher)


def plain_channel_correlation(student: Tensor, teacher: Tensor) -> float:
    channels = len(student)
    value = 0.0
    for c in range(channels):
        rows = [[float((maps[c] * other).sum()) for other in maps] for maps in (student, teacher)]
        one, other = ([each / math.sqrt(sum(x * x for x in row)) for each in row] for row in rows)
        value += sum((x - y) ** 2 for x, y in zip(one, other, strict=True)) / channels
    return value


def test_channel_correlation_equals_plain_loops_and_ignores_positions_and_scale() -> None:
    student, teacher = drawn(0, *WIDE), drawn(1, 3, 4, 5, 2)
    values = losses.channel_correlation(student, teacher)
    expected = [plain_channel_correlation(*pair) for pair in zip(student, teacher, strict=True)]
    assert values.tolist() == pytest.approx(expected)
    moved = losses.channel_correlation(-3 * student.flip(2), 0.1 * teacher.flip(3))
    torch.testing.assert_close(moved, values)
    assert losses.channel_correlation(student, student).abs().max() < 1e-12
    assert gradient(losses.channel_correlation, 0 * student, teacher).isfinite().all()
    with pytest.raises(ValueError, match="equal B and C"):
        losses.channel_correlation(student, drawn(1, 3, 5, 3, 2))


def plain_cosine(student: Tensor, teacher: Tensor) -> float:
    return 1 - F.cosine_similarity(student.mean(dim=(1, 2)), teacher.mean(dim=(1, 2)), dim=0).item()


@shapes
@pytest.mark.parametrize(
    ("loss", "plain"),
    [
        (losses.cosine_features, plain_cosine),
        (attention, plain_attention_transfer),
        (losses.neuron_selectivity, plain_neuron_selectivity),
    ],
)
def test_equals_a_plain_loop(loss: Loss, plain: Callable[[Tensor, Tensor], float], shape: tuple[int, ...]) -> None:
    student, teacher = drawn(0, *shape), drawn(1, *shape)
    expected = [plain(one, other) for one, other in zip(student, teacher, strict=True)]
    assert loss(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)


def test_channels_may_differ_and_their_number_does_not_matter() -> None:
    student, teacher = drawn(0, 2, 3, 4, 4), drawn(1, 2, 5, 4, 4)
    for loss in (attention, losses.neuron_selectivity):
        twice = torch.cat([teacher, teacher], dim=1)  # now more channels than positions are too
        torch.testing.assert_close(loss(student, torch.cat([twice, twice], dim=1)), loss(student, teacher))


def test_attention_transfer_sums_over_the_maps() -> None:
    student, teacher = [drawn(0, *WIDE), drawn(1, *TALL)], [drawn(2, *WIDE), drawn(3, *TALL)]
    parts = [attention(one, other) for one, other in zip(student, teacher, strict=True)]
    torch.testing.assert_close(losses.attention_transfer(student, teacher), parts[0] + parts[1])


# Sizes.


@pooling
def test_the_larger_map_is_pooled_to_the_smaller(loss: Loss) -> None:
    student, teacher = drawn(0, 2, 3, 8, 4), drawn(1, 2, 5, 4, 8)
    expected = loss(F.avg_pool2d(student, (2, 1)), F.avg_pool2d(teacher, (1, 2)))
    torch.testing.assert_close(loss(student, teacher), expected)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 3, 4, 4), (1, 3, 4, 4)), ((2, 3, 4, 4), (2, 3)), ((2, 3), (2, 3)), ((3, 4, 4), (3, 4, 4))],
)
def test_arguments_other_than_two_batches_of_maps_are_refused(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    for loss in (losses.match_size, attention, losses.neuron_selectivity):
        with pytest.raises(ValueError, match="expected maps"):
            loss(torch.ones(student), torch.ones(teacher))


@pytest.mark.parametrize("teacher", [(1, 3), (2, 4), (3,), (2, 3, 1), (2, 4, 5, 5), (1, 3, 5, 5)])
def test_features_whose_cosine_is_undefined_are_refused(teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"differ in shape|are neither"):
        losses.cosine_features(torch.ones(2, 3), torch.ones(teacher))


@pytest.mark.parametrize("number", [0, 1])
def test_lists_that_do_not_pair_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="expected one or more pairs of maps"):
        losses.attention_transfer([torch.ones(WIDE)] * number, [torch.ones(WIDE)] * number * 2)


# Values that are known.


@shapes
@every_loss
def test_zero_when_the_student_equals_the_teacher(loss: Loss, shape: tuple[int, ...]) -> None:
    same = drawn(0, *shape)
    assert loss(same, same).abs().max() < 1e-12
    assert gradient(loss, same, same).abs().max() < 1e-12


def test_the_cosine_of_a_zero_row_is_one_and_has_no_gradient() -> None:
    student, teacher = drawn(0, 3, 4), drawn(1, 3, 4)
    student[0], teacher[1] = 0.0, 0.0
    assert losses.cosine_features(student, teacher)[:2].tolist() == [1.0, 1.0]
    lengths = gradient(losses.cosine_features, student, teacher).norm(dim=1)
    assert lengths[:2].tolist() == [0.0, 0.0]
    assert lengths[2] > 0


@pooling
def test_a_dead_channel_or_map_has_no_gradient(loss: Loss) -> None:
    student, teacher = drawn(0, *WIDE), drawn(1, *WIDE)
    student[0, 1], student[1] = 0.0, 0.0
    slope = gradient(loss, student, teacher)
    assert slope[0, 1].abs().max() == slope[1].abs().max() == 0.0
    assert slope[0, 0].abs().max() > 0


# Invariances.


@given(factor=st.floats(1e-3, 1e3))
@settings(max_examples=20)
def test_the_scale_of_either_side_does_not_matter(factor: float) -> None:
    for loss in (losses.cosine_features, attention, losses.neuron_selectivity):
        student, teacher = drawn(0, *WIDE), drawn(1, *WIDE)
        expected = loss(student, teacher)
        torch.testing.assert_close(loss(factor * student, teacher), expected)
        torch.testing.assert_close(loss(student, factor * teacher), expected)


def test_the_cosine_is_unchanged_by_a_common_rotation() -> None:
    student, teacher = drawn(0, 5, 4), drawn(1, 5, 4)
    rotation, _ = torch.linalg.qr(drawn(2, 4, 4))
    rotated = losses.cosine_features(student @ rotation, teacher @ rotation)
    torch.testing.assert_close(rotated, losses.cosine_features(student, teacher))


@shapes
@pooling
def test_order_and_sign_of_channels_do_not_matter(loss: Loss, shape: tuple[int, ...]) -> None:
    student, teacher = drawn(0, *shape), drawn(1, *shape)
    changed = student.flip(1) * torch.tensor([1.0, -1.0] * shape[1])[: shape[1]].view(-1, 1, 1)
    torch.testing.assert_close(loss(changed, teacher), loss(student, teacher))


def test_each_channels_scale_does_not_matter_to_neuron_selectivity() -> None:
    student, teacher = drawn(0, *WIDE), drawn(1, *WIDE)
    scales = torch.tensor([1.0, -2.0, 30.0, 0.1]).view(-1, 1, 1)
    expected = losses.neuron_selectivity(student, teacher)
    torch.testing.assert_close(losses.neuron_selectivity(student * scales, teacher), expected)


@shapes
@pooling
def test_a_common_order_of_positions_does_not_matter(loss: Loss, shape: tuple[int, ...]) -> None:
    student, teacher = drawn(0, *shape), drawn(1, *shape)
    torch.testing.assert_close(loss(student.flip(3), teacher.flip(3)), loss(student, teacher))


# Stability.

rows = st.lists(st.sampled_from([0.0, -1e-8, 1.0, -1e4, 1e4]), min_size=1, max_size=3)


@given(student_scales=rows, same=st.booleans(), dtype=st.sampled_from([*HALF, torch.float32, torch.float64]))
@settings(max_examples=40)
@pytest.mark.parametrize("shape", [(4, 2, 2), (2, 3, 3)])
@every_loss
def test_value_and_gradient_are_finite(
    loss: Loss, shape: tuple[int, ...], student_scales: list[float], same: bool, dtype: torch.dtype
) -> None:
    scales = torch.tensor(student_scales, dtype=torch.float64).view(-1, 1, 1, 1)
    student = (drawn(0, len(scales), *shape).clamp(-1, 1) * scales).to(dtype)
    teacher = student if same else (drawn(1, len(scales), *shape) * scales.flip(0)).to(dtype)
    value, slope = loss(student, teacher), gradient(loss, student, teacher)
    assert value.isfinite().all()
    assert slope.isfinite().all()
    assert slope.dtype == dtype


@every_loss
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_computed_as_float32(loss: Loss, dtype: torch.dtype) -> None:
    student, teacher = (1e4 * drawn(0, *WIDE)).to(dtype), drawn(1, *WIDE).to(dtype)
    assert loss(student, teacher).dtype == torch.float32
    torch.testing.assert_close(loss(student, teacher), loss(student.float(), teacher.float()), rtol=1e-2, atol=1e-2)


def test_a_half_row_too_short_for_its_gradient_counts_as_zero() -> None:
    student, teacher = torch.full((2, 4), 1e-5, dtype=torch.float16), torch.eye(4)[:2].half()
    assert losses.cosine_features(student, teacher).tolist() == [1.0, 1.0]
    assert gradient(losses.cosine_features, student, teacher).abs().max() == 0


@every_loss
def test_autocast_leaves_value_and_gradient_finite(loss: Loss) -> None:
    student, teacher = 1e4 * drawn(0, *WIDE).float(), drawn(1, *WIDE).float()
    student[0] = 0.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, slope = loss(student, teacher), gradient(loss, student, teacher)
    assert value.isfinite().all()
    assert slope.isfinite().all()
    torch.testing.assert_close(value.float(), loss(student, teacher), rtol=2e-2, atol=2e-2)


# Gradients and replicas.


@every_loss
def test_no_gradient_reaches_the_teacher(loss: Loss) -> None:
    student, teacher = drawn(0, *WIDE).requires_grad_(), drawn(1, *WIDE).requires_grad_()
    loss(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@shapes
@every_loss
def test_gradient_is_right(loss: Loss, shape: tuple[int, ...]) -> None:
    student, teacher = drawn(0, *shape).requires_grad_(), drawn(1, *shape)
    assert torch.autograd.gradcheck(lambda one: loss(one, teacher), [student])


@shapes
@every_loss
def test_stacked_replicas_equal_a_loop(loss: Loss, shape: tuple[int, ...]) -> None:
    student, teacher = drawn(0, 3, *shape).requires_grad_(), drawn(1, 3, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where vmap falls back to a loop
        stacked = vmap(loss)(student, teacher)
        stacked.sum().backward()
    one_by_one = [loss(*replica) for replica in zip(student.detach(), teacher, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(one_by_one))
    slopes = [gradient(loss, *replica) for replica in zip(student.detach(), teacher, strict=True)]
    torch.testing.assert_close(student.grad, torch.stack(slopes))


# The regressor.
