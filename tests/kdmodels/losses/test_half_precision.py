"""Half precision, of every loss: autocast rounds nothing, and no value or gradient is infinite or not a number."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kdmodels import losses

HALF = [torch.float16, torch.bfloat16]
SCALES = [0.0, -1e-8, 1e-7, -1e-6, 1e-5, 1e-3, 1.0, -1e4, 1e4]
TINY, LARGE = (-1e-8, 1e-7, -1e-6, 1e-5, 1e-3), (-1e4, 1e4)
LABELS = torch.tensor([0, 3, 1])

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A loss of its module, if it is one, and of features of a student and a teacher.

    At the scales `beyond`, the docstring of its file says, the gradient itself may be larger than float16 holds.
    """

    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]
    loss: Loss
    make: Callable[[], nn.Module] = nn.Identity
    beyond: Sequence[float] = ()


def on_logits(loss: Callable[[Tensor, Tensor, Tensor], Tensor], beyond: Sequence[float] = ()) -> Case:
    return Case((4,), (4,), lambda _, s, t: loss(s, t, LABELS[: len(s)]), beyond=beyond)


def on_pair(
    loss: Callable[[Tensor, Tensor], Tensor],
    student_shape: tuple[int, ...],
    teacher_shape: tuple[int, ...] | None = None,
    beyond: Sequence[float] = (),
) -> Case:
    return Case(student_shape, teacher_shape or student_shape, lambda _, s, t: loss(s, t), beyond=beyond)


def two(maps: Tensor) -> list[Tensor]:
    """Return maps, and smaller maps with other channels."""
    return [maps[:, :2], maps[:, 2:, :2, :2]]


def regressed(module: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    pair = (module(student), teacher)
    return losses.hint(*(losses.match_size(*pair) if student.ndim == 4 else pair))


def fused(module: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    return losses.review(module(two(student)), two(teacher))


def both_terms(module: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    assert isinstance(module, losses.Adversarial)
    return module(student, teacher) + module.discriminator_loss(student, teacher)


def as_given(module: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    return module(student, teacher)


def contrasted(module: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    return module(student, teacher, torch.arange(len(student)))


D, WIDER, MAP, SMALL = (4,), (6,), (4, 4, 4), (6, 2, 2)
TWO_SHAPES = ([(2, 4, 4), (2, 2, 2)], [(2, 4, 4), (4, 2, 2)])  # of what `two` makes of MAP and of (6, 4, 4)
CASES: dict[str, Case] = {  # by the name in kdmodels.losses, and what tells two of one name apart
    "hard_labels": on_logits(lambda s, t, y: losses.hard_labels(s, y)),
    "label_smoothing": on_logits(lambda s, t, y: losses.label_smoothing(s, y)),
    "soft_targets": on_logits(lambda s, t, y: losses.soft_targets(s, t)),
    "reverse_soft_targets": on_logits(lambda s, t, y: losses.reverse_soft_targets(s, t)),
    "ensemble_logits": on_pair(lambda s, t: losses.ensemble_logits(s), (2, 4)),
    "standardise": on_logits(lambda s, t, y: losses.standardise(s), TINY),
    "standardised_soft_targets": on_logits(lambda s, t, y: losses.standardised_soft_targets(s, t), TINY),
    "decoupled": on_logits(losses.decoupled),
    "dist": on_logits(lambda s, t, y: losses.dist(s, t), TINY),
    "logit_regression": on_logits(lambda s, t, y: losses.logit_regression(s, t)),
    "Adversarial": Case(D, D, both_terms, lambda: losses.Adversarial(4)),
    "hint": on_pair(losses.hint, MAP),
    "cosine_features": on_pair(losses.cosine_features, D),
    "cosine_features of maps": on_pair(losses.cosine_features, MAP),
    "attention_transfer": on_pair(lambda s, t: losses.attention_transfer([s], [t]), MAP, SMALL),
    "neuron_selectivity": on_pair(losses.neuron_selectivity, MAP, (6, 4, 4)),
    "neuron_selectivity of few positions": on_pair(losses.neuron_selectivity, MAP, SMALL),
    "match_size": on_pair(lambda s, t: losses.match_size(s, t)[0], MAP, SMALL),
    "channel_correlation": on_pair(losses.channel_correlation, MAP, (4, 2, 2), TINY),
    "activation_boundaries": on_pair(lambda s, t: losses.activation_boundaries([s], [t]), MAP),
    "overhaul": on_pair(lambda s, t: losses.overhaul([s], [t]), MAP),
    "correlation_congruence": on_pair(losses.correlation_congruence, D),
    "similarity_preserving": on_pair(losses.similarity_preserving, D, WIDER, TINY),
    "relational_distance": on_pair(losses.relational_distance, D, WIDER),
    "relational_angle": on_pair(losses.relational_angle, D, WIDER),
    "distance_metric": on_pair(losses.distance_metric, D, WIDER),
    "distance_metric cosine": on_pair(lambda s, t: losses.distance_metric(s, t, metric="cosine"), D, WIDER),
    "probabilistic_transfer": on_pair(losses.probabilistic_transfer, D, WIDER),
    "flow_of_solution": on_pair(lambda s, t: losses.flow_of_solution(two(s), two(t)), MAP, beyond=LARGE),
    "review": on_pair(lambda s, t: losses.review([s], [t]), MAP),
    "HintRegressor": Case(MAP, SMALL, regressed, lambda: losses.HintRegressor(MAP, SMALL), LARGE),
    "HintRegressor of embeddings": Case(D, WIDER, regressed, lambda: losses.HintRegressor(D, WIDER), LARGE),
    "ReviewFusion": Case(MAP, (6, 4, 4), fused, lambda: losses.ReviewFusion(*TWO_SHAPES), LARGE),
    "VariationalInformation": Case(MAP, SMALL, as_given, lambda: losses.VariationalInformation(MAP, SMALL)),
    "VariationalInformation of embeddings": Case(D, WIDER, as_given, lambda: losses.VariationalInformation(D, WIDER)),
    "SimpleRecipe": Case(D, WIDER, as_given, lambda: losses.SimpleRecipe(4, 6)),
    "CorrelationCongruence": Case(D, WIDER, as_given, lambda: losses.CorrelationCongruence(4, 6, width=5), LARGE),
    "ContrastiveRepresentation": Case(
        D, WIDER, contrasted, lambda: losses.ContrastiveRepresentation(4, 6, torch.arange(9))
    ),
}
MODULES = [name for name, case in CASES.items() if case.make is not nn.Identity]

every_case = pytest.mark.parametrize("name", CASES)
either_half = pytest.mark.parametrize("half", HALF, ids=str)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def made(name: str) -> nn.Module:
    """Return the module with weights that are a function of the shapes."""
    module = CASES[name].make()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(drawn(seed, *parameter.shape) / 2)
    return module


def batch(name: str, student_scales: list[float], teacher_scales: list[float], same: bool) -> tuple[Tensor, Tensor]:
    """Features whose examples have these scales."""
    case = CASES[name]

    def scaled(seed: int, shape: tuple[int, ...], scales: list[float]) -> Tensor:
        return drawn(seed, len(scales), *shape) * torch.tensor(scales).view(-1, *[1] * len(shape))

    student = scaled(0, case.student_shape, student_scales)
    return student, student if same and case.student_shape == case.teacher_shape else scaled(
        1, case.teacher_shape, teacher_scales
    )


def measured(
    name: str, module: nn.Module, student: Tensor, teacher: Tensor, autocast: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Return the value and the student's gradient. Autocast ends before the backward pass, as torch requires."""
    student = student.clone().requires_grad_()
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        value = CASES[name].loss(module, student, teacher)
    value.sum().backward()
    assert student.grad is not None
    return value.detach(), student.grad


def scales(values: list[float]) -> st.SearchStrategy[tuple[list[float], list[float]]]:
    return st.integers(2, 3).flatmap(
        lambda size: st.tuples(*[st.lists(st.sampled_from(values), min_size=size, max_size=size)] * 2)
    )


def test_no_loss_is_forgotten() -> None:
    assert {name.split()[0] for name in CASES} == set(losses.__all__)


@every_case
@either_half
@settings(max_examples=25)
@given(both=scales(SCALES), same=st.booleans())
def test_under_autocast_everything_is_finite(
    name: str, half: torch.dtype, both: tuple[list[float], list[float]], same: bool
) -> None:
    """In float16, features of 1e4 gave gradients that were no numbers in the regressor, the fusion and VID."""
    module, (student, teacher) = made(name), batch(name, *both, same)
    value, slope = measured(name, module, student, teacher, half)
    assert value.isfinite().all()
    assert slope.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in module.parameters())
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


@every_case
@either_half
def test_autocast_rounds_nothing(name: str, half: torch.dtype) -> None:
    student, teacher = batch(name, [1.0, 30.0, 1.0], [1.0, 1.0, 3.0], same=False)
    rounding, plain = made(name), made(name)
    found = measured(name, rounding, student, teacher, half)
    for one, other in zip(found, measured(name, plain, student, teacher), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(rounding.parameters(), plain.parameters(), strict=True):
        assert (one.grad is None) is (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)


@every_case
@either_half
@settings(max_examples=25)
@given(data=st.data(), same=st.booleans())
def test_a_gradient_cast_back_to_half_precision_is_finite(
    name: str, half: torch.dtype, data: st.DataObject, same: bool
) -> None:
    beyond = CASES[name].beyond if half == torch.float16 else ()
    both = data.draw(scales([scale for scale in SCALES if scale not in beyond]))
    student, teacher = (each.to(half) for each in batch(name, *both, same))
    value, slope = measured(name, made(name), student, teacher, half)
    assert value.isfinite().all()
    assert slope.isfinite().all()
    assert slope.dtype == half


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.beyond])
@settings(max_examples=40)
@given(both=scales(SCALES), same=st.booleans())
def test_a_float16_gradient_is_infinite_only_where_it_is_beyond_float16(
    name: str, both: tuple[list[float], list[float]], same: bool
) -> None:
    student, teacher = (each.half() for each in batch(name, *both, same))
    value, slope = measured(name, made(name), student, teacher)
    _, exact = measured(name, made(name), student.float(), teacher.float())
    assert value.isfinite().all()
    assert exact.isfinite().all()
    assert not slope.isnan().any()
    assert (exact[slope.isinf()].abs() > torch.finfo(torch.float16).max).all()


SHORT = ["cosine_features", "distance_metric cosine", "probabilistic_transfer", "relational_angle",
        "similarity_preserving", "neuron_selectivity", "neuron_selectivity of few positions",
        "attention_transfer"]  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("scale", [1e-5, 1e-6, 1e-7])
def test_float16_features_too_short_for_their_gradient_count_as_zeros(name: str, scale: float) -> None:
    """Neuron selectivity and cosine distances had infinite gradients there: the type was forgotten on the way."""
    student, teacher = (each.half() for each in batch(name, [scale] * 3, [1.0] * 3, same=False))
    value, slope = measured(name, made(name), student, teacher)
    nothing, _ = measured(name, made(name), 0 * student, teacher)
    assert torch.equal(value, nothing)
    assert (slope == 0).all()


def test_float16_embeddings_too_near_for_their_gradient_count_as_equally_far() -> None:
    student, teacher = (each.half() for each in batch("relational_distance", [1e-5] * 3, [1.0] * 3, same=False))
    value, slope = measured("relational_distance", nn.Identity(), student, teacher)
    assert torch.equal(value, losses.relational_distance(torch.zeros(3, 4).half(), teacher))
    assert (slope == 0).all()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_compiled_whole_under_autocast(name: str) -> None:
    student, teacher = batch(name, [1.0, 30.0, 1.0], [1.0, 1.0, 3.0], same=False)
    module, case = made(name), CASES[name]
    other = deepcopy(module)
    torch.compiler.reset()  # torch compiles the same lines only a few times
    compiled = torch.compile(lambda s, t: case.loss(module, s, t), backend="eager", fullgraph=True)
    with torch.autocast("cpu", dtype=torch.float16):
        torch.testing.assert_close(compiled(student, teacher), case.loss(other, student, teacher))
