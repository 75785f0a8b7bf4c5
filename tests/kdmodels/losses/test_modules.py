"""Properties of all losses that have parameters or memory of their own."""

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kdmodels import losses
from tests.kdmodels.losses.samples import contrast, drawn, drawn_for

HALF = [torch.float16, torch.bfloat16]
Make = Callable[[], nn.Module]
MODULES: dict[str, tuple[Make, tuple[int, ...], tuple[int, ...]]] = {  # and shapes of one example's features
    "variational maps": (lambda: losses.VariationalInformation((4, 4, 4), (6, 2, 2)), (4, 4, 4), (6, 2, 2)),
    "variational embeddings": (lambda: losses.VariationalInformation((4,), (6,)), (4,), (6,)),
    "simple recipe": (lambda: losses.SimpleRecipe(4, 6), (4,), (6,)),
    "congruence": (lambda: losses.CorrelationCongruence(4, 6, width=5), (4,), (6,)),
    "contrastive": (contrast, (4,), (6,)),
    "contrastive, few negatives": (lambda: contrast(negatives=3), (4,), (6,)),
}
every_module = pytest.mark.parametrize(("make", "student_shape", "teacher_shape"), MODULES.values(), ids=MODULES)


def arguments(module: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, ...]:
    known = isinstance(module, losses.ContrastiveRepresentation)
    return (student, teacher, torch.arange(len(student))) if known else (student, teacher)


@every_module
def test_no_gradient_reaches_the_teacher_and_everything_else_is_trained(
    make: Make, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]
) -> None:
    module = make().double()
    student, teacher = drawn(0, 3, *student_shape).requires_grad_(), drawn(1, 3, *teacher_shape).requires_grad_()
    module(*arguments(module, student, teacher)).sum().backward()
    assert teacher.grad is None
    for reached in (student, *module.parameters()):
        assert reached.grad is not None
        assert reached.grad.abs().sum() > 0


@every_module
def test_everything_it_owns_is_checkpointed(
    make: Make, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]
) -> None:
    module, other = make().double(), make().double()
    for seed in (0, 2):
        module(
            *arguments(module, drawn(seed, 3, *student_shape), drawn(seed + 1, 3, *teacher_shape))
        )  # moves what moves
    state = module.state_dict()
    other.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    values = [
        each(*arguments(each, drawn(4, 3, *student_shape), drawn(5, 3, *teacher_shape))) for each in (module, other)
    ]
    assert torch.equal(*values)
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in other.state_dict().items())
    owned = {name for name, _ in [*module.named_parameters(), *module.named_buffers()]}
    assert owned - set(state) <= {"drawn"}


@every_module
def test_in_eval_mode_no_state_changes(
    make: Make, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]
) -> None:
    module = make().double().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module(*arguments(module, drawn(0, 3, *student_shape), drawn(1, 3, *teacher_shape)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@every_module
def test_embeddings_that_do_not_fit_are_refused(
    make: Make, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]
) -> None:
    module = make().double()
    with pytest.raises(ValueError, match=r"differ in shape|expected"):
        module(*arguments(module, drawn(0, 3, *student_shape), drawn(1, 1, *teacher_shape)))
    with pytest.raises(ValueError, match=r"differ in shape|expected"):
        module(*arguments(module, drawn(0, 3, *student_shape), drawn(1, 3, *teacher_shape, 1)))


@given(
    scales=st.lists(st.sampled_from([0.0, 1.0, -1e4, 1e4]), min_size=1, max_size=3),
    dtype=st.sampled_from([*HALF, torch.float32, torch.float64]),
    autocast=st.booleans(),
)
@settings(max_examples=25)
@every_module
def test_value_and_gradient_are_finite(
    make: Make,
    student_shape: tuple[int, ...],
    teacher_shape: tuple[int, ...],
    scales: list[float],
    dtype: torch.dtype,
    autocast: bool,
) -> None:
    module, by_row = make().float(), torch.tensor(scales, dtype=torch.float64)
    module.train(len(scales) > 1 or not isinstance(module, losses.SimpleRecipe))
    student = (
        (drawn(0, *student_shape).clamp(-1, 1) * by_row.view(-1, *[1] * len(student_shape))).to(dtype).requires_grad_()
    )
    teacher = (drawn(1, *teacher_shape).clamp(-1, 1) * by_row.flip(0).view(-1, *[1] * len(teacher_shape))).to(dtype)
    for _ in range(2):  # with what it remembers too
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = module(*arguments(module, student, teacher))
        value.sum().backward()
        assert value.isfinite().all()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in (student, *module.parameters()))
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


@every_module
def test_stacked_replicas_equal_a_loop(
    make: Make, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]
) -> None:
    """Two steps, so that the state after the first step counts."""
    single = [make().double() for _ in range(2)]
    params, buffers = stack_module_state(single)
    indices = torch.tensor([[2, 0, 5], [8, 1, 7]])

    def run(params: dict[str, Tensor], buffers: dict[str, Tensor], *given: Tensor) -> Tensor:
        return functional_call(single[0], {**params, **buffers}, given)

    for step in range(2):
        student, teacher = drawn(step, 2, 3, *student_shape), drawn(step + 9, 2, 3, *teacher_shape)
        given = arguments(single[0], student, teacher)[:2]
        extra: list[dict[str, Tensor]] = [{}, {}]
        if isinstance(single[0], losses.ContrastiveRepresentation):
            given = (*given, indices)
            extra = [drawn_for(module, own, step) for module, own in zip(single, indices, strict=True)]  # type: ignore[arg-type]
        stacked_extra = {name: torch.stack([own[name] for own in extra]) for name in extra[0]}
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns where vmap falls back to a loop
            stacked = vmap(run)(params, {**buffers, **stacked_extra}, *given)
            stacked.sum().backward()
        for row, module in enumerate(single):
            value = functional_call(module, extra[row], tuple(each[row] for each in given))
            value.sum().backward()
            torch.testing.assert_close(stacked[row], value)
            for name, parameter in module.named_parameters():
                torch.testing.assert_close(params[name].grad[row], parameter.grad)
            for name, buffer in module.named_buffers():
                torch.testing.assert_close(buffers[name][row], buffer)
