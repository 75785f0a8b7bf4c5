"""The review pyramid against plain loops, and the fusion against a case computed by hand."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kdmodels import losses

HALF = [torch.float16, torch.bfloat16]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def review(student: Tensor, teacher: Tensor) -> Tensor:
    return losses.review([student], [teacher])


def gradient(student: Tensor, teacher: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    review(student, teacher).sum().backward()
    assert student.grad is not None
    return student.grad


def plain_mean_square(difference: Tensor, side: int) -> float:
    """Return one channel's square map averaged down to side x side; `side` must divide its side."""
    step = len(difference) // side
    blocks = [
        difference[i * step : (i + 1) * step, j * step : (j + 1) * step].mean().item()
        for i in range(side)
        for j in range(side)
    ]
    return sum(block**2 for block in blocks) / len(blocks)


@pytest.mark.parametrize(
    ("size", "weights"), [(8, {8: 8, 4: 4, 2: 2, 1: 1}), (4, {4: 4, 2: 2, 1: 1}), (2, {2: 2, 1: 1}), (1, {1: 1})]
)
def test_equals_a_plain_loop_over_the_levels_smaller_than_the_map(size: int, weights: dict[int, int]) -> None:
    student, teacher = drawn(0, 3, 2, size, size), drawn(1, 3, 2, size, size)
    expected = [
        sum(weight * plain_mean_square(channel, side) / 2 for side, weight in weights.items() for channel in one)
        / sum(weights.values())
        for one in student - teacher
    ]
    assert review(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)


def test_maps_of_a_list_are_summed() -> None:
    student, teacher = [drawn(0, 2, 3, 8, 8), drawn(1, 2, 5, 4, 4)], [drawn(2, 2, 3, 8, 8), drawn(3, 2, 5, 4, 4)]
    parts = [review(*pair) for pair in zip(student, teacher, strict=True)]
    torch.testing.assert_close(losses.review(student, teacher), parts[0] + parts[1])


def test_zero_if_student_equals_teacher_and_unchanged_by_a_common_addition() -> None:
    student, teacher, added = (drawn(seed, 2, 3, 8, 8) for seed in range(3))
    assert review(teacher, teacher).tolist() == [0.0, 0.0]
    torch.testing.assert_close(review(student + added, teacher + added), review(student, teacher))


@pytest.mark.parametrize(
    ("student", "teacher"), [((2, 3, 4, 4), (1, 3, 4, 4)), ((2, 3, 4, 4), (2, 3, 4, 1)), ((2, 3), (2, 3))]
)
def test_shapes_that_would_broadcast_or_are_no_maps_are_refused(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"differ in shape|expected maps"):
        review(torch.ones(student), torch.ones(teacher))


@pytest.mark.parametrize("number", [0, 1])
def test_lists_that_do_not_pair_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="expected one or more pairs of maps"):
        losses.review([torch.ones(2, 3, 4, 4)] * number, [torch.ones(2, 3, 4, 4)] * number * 2)


@given(
    scales=st.lists(st.sampled_from([0.0, 1.0, -1e4, 1e4]), min_size=1, max_size=3),
    same=st.booleans(),
    dtype=st.sampled_from([*HALF, torch.float32, torch.float64]),
)
@settings(max_examples=30)
def test_value_and_gradient_are_finite(scales: list[float], same: bool, dtype: torch.dtype) -> None:
    by_row = torch.tensor(scales, dtype=torch.float64).view(-1, 1, 1, 1)
    student = (drawn(0, len(scales), 2, 3, 5) * by_row).to(dtype)
    teacher = student if same else (drawn(1, len(scales), 2, 3, 5) * by_row.flip(0)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = [review(student, teacher), gradient(student, teacher)]
    values += [review(student, teacher), gradient(student, teacher)]
    assert all(value.isfinite().all() for value in values)


def test_no_gradient_reaches_the_teacher_and_the_students_is_right() -> None:
    student, teacher = drawn(0, 2, 2, 5, 5).requires_grad_(), drawn(1, 2, 2, 5, 5).requires_grad_()
    review(student, teacher).sum().backward()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda one: review(one, teacher.detach()), [student])


def test_stacked_replicas_equal_a_loop() -> None:
    student, teacher = drawn(0, 3, 2, 4, 8, 8).requires_grad_(), drawn(1, 3, 2, 4, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where vmap falls back to a loop
        stacked = vmap(review)(student, teacher)
        stacked.sum().backward()
    pairs = list(zip(student.detach(), teacher, strict=True))
    torch.testing.assert_close(stacked, torch.stack([review(*pair) for pair in pairs]))
    torch.testing.assert_close(student.grad, torch.stack([gradient(*pair) for pair in pairs]))


# The fusion.

STUDENT_SHAPES = [(4, 8, 8), (6, 4, 4), (8, 2, 2)]
TEACHER_SHAPES = [(5, 16, 16), (7, 4, 4), (9, 3, 3)]


def student_maps(dtype: torch.dtype = torch.float32, batch: int = 2) -> list[Tensor]:
    return [drawn(seed, batch, *shape).to(dtype).requires_grad_() for seed, shape in enumerate(STUDENT_SHAPES)]


def test_the_fusion_equals_a_case_computed_by_hand() -> None:
    """Channels and width 1, batch norm the identity. The deepest map is 10, the first is [[1, 2], [3, 4]]."""
    fusion = losses.ReviewFusion([(1, 2, 2), (1, 1, 1)], [(1, 2, 2), (1, 1, 1)], width=1).double().eval()
    for layer in fusion.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    neighbour = torch.tensor([[0.0, 0, 0], [0, 1, 1], [0, 0, 0]]).view(1, 1, 3, 3)  # x and what is right of it
    weights = {
        "stages.0.reduce.0.weight": torch.full((1, 1, 1, 1), 2.0),
        "stages.1.reduce.0.weight": torch.full((1, 1, 1, 1), 3.0),  # so the deepest gives 30
        # Of its own 1/2; of the deeper one's sigmoid(-log 3) = 1/4.
        "stages.0.attention.weight": torch.tensor([[0.0, 0.0], [0.0, -math.log(3) / 30]], dtype=torch.float64).view(
            2, 2, 1, 1
        ),
        "stages.0.attention.bias": torch.zeros(2),
        "stages.0.expand.0.weight": neighbour,
        "stages.1.expand.0.weight": neighbour,
    }
    fusion.load_state_dict(fusion.state_dict() | weights)
    deep_maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
    fused = fusion([deep_maps, torch.full((1, 1, 1, 1), 10.0, dtype=torch.float64)])
    # 2 x / 2 + 30 / 4 = x + 7.5 is [[8.5, 9.5], [10.5, 11.5]]
    torch.testing.assert_close(fused[0], torch.tensor([[[[18.0, 9.5], [22.0, 11.5]]]], dtype=torch.float64))
    torch.testing.assert_close(fused[1], torch.full((1, 1, 1, 1), 30.0, dtype=torch.float64))


def test_the_fused_maps_have_the_teachers_shapes_and_depend_on_deeper_maps() -> None:
    fusion, maps = losses.ReviewFusion(STUDENT_SHAPES, TEACHER_SHAPES), student_maps()
    fused = fusion(maps)
    assert [tuple(each.shape[1:]) for each in fused] == TEACHER_SHAPES
    for number, output in enumerate(fused):
        slopes = torch.autograd.grad(output.square().sum(), maps, retain_graph=True, allow_unused=True)
        assert [slope is not None for slope in slopes] == [other >= number for other in range(3)]


def test_everything_in_the_fusion_is_trained_and_checkpointed() -> None:
    fusion = losses.ReviewFusion(STUDENT_SHAPES, TEACHER_SHAPES, width=3)
    teacher = [drawn(number, 2, *shape).float() for number, shape in enumerate(TEACHER_SHAPES)]
    losses.review(fusion(student_maps()), teacher).sum().backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())
    assert {name for name, _ in [*fusion.named_parameters(), *fusion.named_buffers()]} == set(fusion.state_dict())


@pytest.mark.parametrize(
    ("student", "teacher"),
    [([], []), (STUDENT_SHAPES, TEACHER_SHAPES[:2]), ([(4,)], [(5, 4, 4)]), ([(4, 8, 8)], [(5,)])],
)
def test_the_fusion_refuses_shapes_other_than_pairs_of_maps(
    student: list[tuple[int, ...]], teacher: list[tuple[int, ...]]
) -> None:
    with pytest.raises(ValueError, match="expected pairs of maps"):
        losses.ReviewFusion(student, teacher)


def test_the_fusion_refuses_other_maps_than_it_was_built_for() -> None:
    fusion = losses.ReviewFusion(STUDENT_SHAPES, TEACHER_SHAPES)
    for wrong in (student_maps()[:2], student_maps()[::-1]):
        with pytest.raises(ValueError, match="expected batches of maps"):
            fusion(wrong)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_the_fusion_is_finite_also_for_one_example(scale: float, dtype: torch.dtype) -> None:
    fusion = losses.ReviewFusion(STUDENT_SHAPES, TEACHER_SHAPES)
    for autocast in (False, True):
        maps = [(scale * each.detach()).to(dtype).requires_grad_() for each in student_maps(batch=1)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            fused = fusion(maps)
            losses.review(fused, [torch.zeros_like(each) for each in fused]).sum().backward()
        assert all(each.isfinite().all() for each in fused)
        assert all(each.grad is not None and each.grad.isfinite().all() for each in maps)


def test_stacked_fusions_equal_a_loop() -> None:
    single = [losses.ReviewFusion(STUDENT_SHAPES, TEACHER_SHAPES).double() for _ in range(2)]
    params, buffers = stack_module_state(single)
    maps = [drawn(number, 2, 3, *shape) for number, shape in enumerate(STUDENT_SHAPES)]

    def fuse(params: dict[str, Tensor], buffers: dict[str, Tensor], *maps: Tensor) -> list[Tensor]:
        return functional_call(single[0], {**params, **buffers}, (maps,))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stacked = vmap(fuse)(params, buffers, *maps)
        sum(each.square().sum() for each in stacked).backward()  # type: ignore[union-attr]
    for row, fusion in enumerate(single):
        fused = fusion([each[row] for each in maps])
        torch.testing.assert_close([each[row] for each in stacked], fused)
        sum(each.square().sum() for each in fused).backward()
        for name, parameter in fusion.named_parameters():
            torch.testing.assert_close(params[name].grad[row], parameter.grad)
        for name, buffer in fusion.named_buffers():
            torch.testing.assert_close(buffers[name][row], buffer)


@pytest.mark.parametrize(("student", "teacher"), [(1, 4), (4, 1)])
def test_the_fusion_cannot_train_on_one_value_per_channel(student: int, teacher: int) -> None:
    """On either side; Torch's error named neither the features nor the cause."""
    fusion = losses.ReviewFusion([(3, 4, 4), (3, student, student)], [(5, 4, 4), (5, teacher, teacher)])
    maps = [torch.ones(2, 3, 4, 4), torch.ones(2, 3, student, student)]
    with pytest.raises(ValueError, match=r"features \(1, 3, 1, 1\) have one value per channel. Batch norm"):
        fusion([each[:1] for each in maps])
    assert all(each.isfinite().all() for each in fusion(maps))
    assert all(each.isfinite().all() for each in fusion.eval()([each[:1] for each in maps]))
