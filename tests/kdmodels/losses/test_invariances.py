"""What a loss does not depend on, and its value where that is known: as the docstrings say."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kdmodels import losses


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


seeds = st.integers(0, 1000)
shifts = st.floats(-50, 50)
orders = st.permutations(range(4))


# On logits.


@settings(max_examples=25)
@given(shift=shifts)
def test_losses_of_labels_are_free_of_a_constant_added_to_an_examples_logits(shift: float) -> None:
    logits, labels = drawn(0, 4, 5), torch.tensor([0, 4, 2, 2])
    moved = logits + shift * torch.arange(4).unsqueeze(1)
    for loss in (losses.hard_labels, losses.label_smoothing):
        torch.testing.assert_close(loss(moved, labels), loss(logits, labels))


@settings(max_examples=25)
@given(shift=shifts)
def test_logit_regression_is_free_of_a_common_shift_and_of_no_other(shift: float) -> None:
    student, teacher = drawn(0, 4, 5), drawn(1, 4, 5)
    value = losses.logit_regression(student, teacher)
    torch.testing.assert_close(losses.logit_regression(student + shift, teacher + shift), value)
    alone = losses.logit_regression(student + 100, teacher)
    assert (alone > value + 1).all()


# On features.


@settings(max_examples=25)
@given(seed=seeds)
def test_a_hint_is_free_of_a_common_addition_and_of_a_common_rotation(seed: int) -> None:
    student, teacher, added = drawn(0, 4, 6), drawn(1, 4, 6), drawn(seed, 4, 6)
    value, rotation = losses.hint(student, teacher), torch.linalg.qr(drawn(seed, 6, 6)).Q
    torch.testing.assert_close(losses.hint(student + added, teacher + added), value)
    torch.testing.assert_close(losses.hint(student @ rotation, teacher @ rotation), value)
    assert (losses.hint(student @ -rotation, teacher @ rotation) - value).abs().min() > 1e-6  # not of one side's


FEATURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hint": losses.hint,
    "cosine_features": losses.cosine_features,
    "attention_transfer": lambda s, t: losses.attention_transfer([s], [t]),
    "neuron_selectivity": losses.neuron_selectivity,
    "review": lambda s, t: losses.review([s], [t]),
}


@pytest.mark.parametrize("name", FEATURES)
@settings(max_examples=15)
@given(order=orders)
def test_values_follow_the_order_of_the_examples_and_each_is_of_its_own_alone(name: str, order: list[int]) -> None:
    student, teacher = drawn(0, 4, 3, 4, 4), drawn(1, 4, 3, 4, 4)
    values = FEATURES[name](student, teacher)
    torch.testing.assert_close(FEATURES[name](student[order], teacher[order]), values[order])
    torch.testing.assert_close(FEATURES[name](student[:1], teacher[:1]), values[:1])


@settings(max_examples=15)
@given(order=orders)
def test_the_flow_of_solution_is_free_of_the_order_of_the_examples(order: list[int]) -> None:
    student, teacher = ([drawn(seed, 4, 3, 4, 4), drawn(seed + 1, 4, 2, 2, 2)] for seed in (0, 2))
    value = losses.flow_of_solution(student, teacher)
    moved = losses.flow_of_solution([each[order] for each in student], [each[order] for each in teacher])
    torch.testing.assert_close(moved, value)
    assert (losses.flow_of_solution([each.roll(1, 0) for each in student], teacher) - value).abs() > 1e-6


@pytest.mark.parametrize(
    ("dtype", "counts", "is_zero"),
    [(torch.float64, 1e-5, 1e-7), (torch.float32, 1e-5, 1e-7), (torch.float16, 1e-3, 1e-5)],
)
def test_attention_is_free_of_a_factor_down_to_a_length_that_counts_as_zero(
    dtype: torch.dtype, counts: float, is_zero: float
) -> None:
    student, teacher = (drawn(seed, 4, 3, 4, 4).clamp(-2, 2) for seed in (0, 1))

    def value(factor: float) -> Tensor:
        return losses.attention_transfer([(factor * student).to(dtype)], [teacher.to(dtype)])

    torch.testing.assert_close(value(counts).double(), value(1.0).double(), rtol=1e-2, atol=1e-4)
    assert torch.equal(value(is_zero), value(0.0))


# Of the modules.


def trained(module: nn.Module) -> nn.Module:
    """In float64, its weights being a function of the shapes."""
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(drawn(seed, *parameter.shape) / 2)
    return module.double()


REGRESSED = [((3, 4, 4), (5, 4, 4)), ((3,), (5,))]
regressors = pytest.mark.parametrize(("student_shape", "teacher_shape"), REGRESSED, ids=["maps", "embeddings"])
factors = st.floats(0.5, 1e3)


@regressors
@settings(max_examples=25)
@given(factor=factors, seed=seeds, order=orders)
def test_the_regressor_is_free_of_the_students_scale_and_shift_and_follows_its_order(
    student_shape: tuple[int, ...], teacher_shape: tuple[int, ...], factor: float, seed: int, order: list[int]
) -> None:
    regressor, features = trained(losses.HintRegressor(student_shape, teacher_shape)), drawn(0, 4, *student_shape)
    given = regressor(features)
    shift = drawn(seed, 3, *[1] * (len(student_shape) - 1))
    torch.testing.assert_close(regressor(features + shift), given)
    torch.testing.assert_close(regressor(factor * features), given, rtol=1e-3, atol=1e-3)  # for batch norm's epsilon
    torch.testing.assert_close(regressor(features[order]), given[order])
    assert (regressor(-features) - given).abs().max() > 0.1


def test_the_regressor_gives_what_batch_norm_says() -> None:
    regressor, features = trained(losses.HintRegressor((3,), (5,))), drawn(0, 4, 3)
    weight, scale, shift = regressor.parameters()
    mapped = features @ weight.T
    deviation = (mapped.var(dim=0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(regressor(features), (mapped - mapped.mean(dim=0)) / deviation * scale + shift)


SHAPES = ([(3, 4, 4), (2, 2, 2)], [(5, 4, 4), (4, 2, 2)])


@settings(max_examples=25)
@given(factor=factors, seed=seeds, order=orders)
def test_the_fusion_is_free_of_each_maps_scale_and_shift_and_follows_its_order(
    factor: float, seed: int, order: list[int]
) -> None:
    fusion = trained(losses.ReviewFusion(*SHAPES))
    maps = [drawn(number, 4, *shape) for number, shape in enumerate(SHAPES[0])]
    given = fusion(maps)
    shift = drawn(seed, 3, 1, 1)
    for moved, rounding in ([maps[0] + shift, maps[1]], 1e-6), ([maps[0], factor * maps[1]], 1e-2):
        for one, other in zip(fusion(moved), given, strict=True):
            torch.testing.assert_close(one, other, rtol=rounding, atol=rounding)  # for batch norm's epsilon
    for one, other in zip(fusion([each[order] for each in maps]), given, strict=True):
        torch.testing.assert_close(one, other[order])


@regressors
def test_stacked_regressors_equal_a_loop(student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
    single = [losses.HintRegressor(student_shape, teacher_shape).double() for _ in range(2)]
    params, buffers = stack_module_state(single)
    features = drawn(0, 2, 4, *student_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where vmap falls back to a loop
        stacked = vmap(lambda p, b, f: functional_call(single[0], {**p, **b}, (f,)))(params, buffers, features)
    for row, regressor in enumerate(single):
        torch.testing.assert_close(stacked[row], regressor(features[row]))


def test_variational_information_of_an_exact_prediction_is_half_the_log_of_the_variance() -> None:
    module, student = losses.VariationalInformation((4,), (6,)).double(), drawn(0, 3, 4)
    exact = module.mean(student).detach()
    assert module(student, exact).tolist() == pytest.approx([math.log(5) / 2] * 3)
    assert (module(student, exact + drawn(1, 3, 6)) > math.log(5) / 2).all()
    variances = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0, 0.1], dtype=torch.float64)
    with torch.no_grad():
        module.raw_variance.copy_((variances - 1e-5).expm1().log())
    expected = sum(math.log(variance) for variance in variances.tolist()) / 6 / 2
    assert expected < 0.2
    assert module(student, exact).tolist() == pytest.approx([expected] * 3)


@pytest.mark.parametrize("negatives", [1, 3, 8])
def test_contrast_that_tells_nothing_apart_has_the_value_of_a_guess(negatives: int) -> None:
    module = losses.ContrastiveRepresentation(4, 6, torch.arange(9), width=5, negatives=negatives).double()
    for bank in (module.student_bank, module.teacher_bank):
        bank.copy_(bank[:1].expand_as(bank).clone())  # all examples are remembered alike
    student, teacher = drawn(0, 1, 4).expand(3, -1), drawn(1, 1, 6).expand(3, -1)
    expected = 2 * (math.log(1 + negatives) + negatives * math.log(1 + 1 / negatives))
    assert module(student, teacher, torch.arange(3)).tolist() == pytest.approx([expected] * 3)


# Student and teacher identical.

SAME: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor]]] = {
    "variational maps": (lambda: losses.VariationalInformation((4, 1, 1), (4, 1, 1)),
                         lambda m, f: m(f[..., None, None], f[..., None, None])),
    "variational embeddings": (lambda: losses.VariationalInformation((4,), (4,)), lambda m, f: m(f, f)),
    "contrastive": (lambda: losses.ContrastiveRepresentation(4, 4, torch.arange(9)),
                    lambda m, f: m(f, f, torch.arange(len(f)))),
    "simple recipe": (lambda: losses.SimpleRecipe(4, 4), lambda m, f: m(f, f)),
    "adversarial": (lambda: losses.Adversarial(4), lambda m, f: m(f, f)),
    "discriminator": (lambda: losses.Adversarial(4), lambda m, f: m.discriminator_loss(f, f)),  # type: ignore[operator]
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
@settings(max_examples=25)
@given(
    scales=st.lists(st.sampled_from([0.0, 1e-7, 1.0, -1e4, 1e4]), min_size=2, max_size=4),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_a_student_identical_to_its_teacher_has_finite_values_and_gradients(
    name: str, scales: list[float], dtype: torch.dtype
) -> None:
    make, loss = SAME[name]
    module = trained(make()).float()
    features = (drawn(0, len(scales), 4).clamp(-1, 1) * torch.tensor(scales).unsqueeze(1)).to(dtype).requires_grad_()
    value = loss(module, features)
    value.sum().backward()
    reached = [each.grad for each in (features, *module.parameters()) if each.grad is not None]
    assert value.isfinite().all()
    assert reached
    assert all(slope.isfinite().all() for slope in reached)
    if name == "discriminator":  # real and fake alike: at its least where D is 1/2
        assert (value >= 2 * math.log(2) - 1e-5).all()
