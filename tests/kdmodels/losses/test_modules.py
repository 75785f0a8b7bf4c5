"""Losses with parameters or memory of their own: cases worked by hand, plain loops, state, replicas stacked."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kdmodels import losses

HALF = [torch.float16, torch.bfloat16]
EXAMPLES = 9


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([1, 0, 2, 0, 1, -1, 0, 1, -1])  # unequal classes, and two examples without a label


def contrast(negatives: int = 16384, momentum: float = 0.5) -> losses.ContrastiveRepresentation:
    return losses.ContrastiveRepresentation(4, 6, LABELS, width=5, negatives=negatives, momentum=momentum).double()


def drawn_for(module: losses.ContrastiveRepresentation, indices: Tensor, seed: int = 0) -> dict[str, Tensor]:
    return {"drawn": module.draw(indices, torch.Generator().manual_seed(seed))}


Make = Callable[[], nn.Module]
MODULES: dict[str, tuple[Make, tuple[int, ...], tuple[int, ...]]] = {  # and shapes of one example's features
    "variational maps": (lambda: losses.VariationalInformation((4, 4, 4), (6, 2, 2)), (4, 4, 4), (6, 2, 2)),
    "variational embeddings": (lambda: losses.VariationalInformation((4,), (6,)), (4,), (6,)),
    "simple recipe": (lambda: losses.SimpleRecipe(4, 6), (4,), (6,)),
    "contrastive": (contrast, (4,), (6,)),
    "contrastive, few negatives": (lambda: contrast(negatives=3), (4,), (6,)),
}
every_module = pytest.mark.parametrize(("make", "mine", "theirs"), MODULES.values(), ids=MODULES)


def arguments(module: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, ...]:
    known = isinstance(module, losses.ContrastiveRepresentation)
    return (student, teacher, torch.arange(len(student))) if known else (student, teacher)


# Common to all.


@every_module
def test_no_gradient_reaches_the_teacher_and_all_else_is_trained(
    make: Make, mine: tuple[int, ...], theirs: tuple[int, ...]
) -> None:
    module = make().double()
    student, teacher = drawn(0, 3, *mine).requires_grad_(), drawn(1, 3, *theirs).requires_grad_()
    module(*arguments(module, student, teacher)).sum().backward()
    assert teacher.grad is None
    for reached in (student, *module.parameters()):
        assert reached.grad is not None
        assert reached.grad.abs().sum() > 0


@every_module
def test_everything_it_owns_is_checkpointed(make: Make, mine: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    module, other = make().double(), make().double()
    for seed in (0, 2):
        module(*arguments(module, drawn(seed, 3, *mine), drawn(seed + 1, 3, *theirs)))  # moves what moves
    state = module.state_dict()
    other.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    values = [each(*arguments(each, drawn(4, 3, *mine), drawn(5, 3, *theirs))) for each in (module, other)]
    assert torch.equal(*values)
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in other.state_dict().items())
    owned = {name for name, _ in [*module.named_parameters(), *module.named_buffers()]}
    assert owned - set(state) <= {"drawn"}


@every_module
def test_in_eval_mode_nothing_moves(make: Make, mine: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    module = make().double().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module(*arguments(module, drawn(0, 3, *mine), drawn(1, 3, *theirs)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@every_module
def test_embeddings_that_do_not_fit_are_refused(make: Make, mine: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    module = make().double()
    with pytest.raises(ValueError, match=r"differ in shape|are not"):
        module(*arguments(module, drawn(0, 3, *mine), drawn(1, 1, *theirs)))
    with pytest.raises(ValueError, match=r"differ in shape|are not"):
        module(*arguments(module, drawn(0, 3, *mine), drawn(1, 3, *theirs, 1)))


@given(
    scales=st.lists(st.sampled_from([0.0, 1.0, -1e4, 1e4]), min_size=1, max_size=3),
    dtype=st.sampled_from([*HALF, torch.float32, torch.float64]),
    autocast=st.booleans(),
)
@settings(max_examples=25)
@every_module
def test_value_and_gradient_are_finite(
    make: Make,
    mine: tuple[int, ...],
    theirs: tuple[int, ...],
    scales: list[float],
    dtype: torch.dtype,
    autocast: bool,
) -> None:
    module, by_row = make().float(), torch.tensor(scales, dtype=torch.float64)
    module.train(len(scales) > 1 or not isinstance(module, losses.SimpleRecipe))
    student = (drawn(0, *mine).clamp(-1, 1) * by_row.view(-1, *[1] * len(mine))).to(dtype).requires_grad_()
    teacher = (drawn(1, *theirs).clamp(-1, 1) * by_row.flip(0).view(-1, *[1] * len(theirs))).to(dtype)
    for _ in range(2):  # with what it remembers too
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = module(*arguments(module, student, teacher))
        value.sum().backward()
        assert value.isfinite().all()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in (student, *module.parameters()))
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


@every_module
def test_stacked_replicas_equal_a_loop(make: Make, mine: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    """Two steps, so that what the first left behind counts."""
    single = [make().double() for _ in range(2)]
    params, buffers = stack_module_state(single)
    indices = torch.tensor([[2, 0, 5], [8, 1, 7]])

    def run(params: dict[str, Tensor], buffers: dict[str, Tensor], *given: Tensor) -> Tensor:
        return functional_call(single[0], {**params, **buffers}, given)

    for step in range(2):
        student, teacher = drawn(step, 2, 3, *mine), drawn(step + 9, 2, 3, *theirs)
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


# Variational information.


def test_at_fixed_variance_it_is_a_scaled_mean_square_and_a_constant() -> None:
    module = losses.VariationalInformation((4, 8, 8), (6, 4, 4)).double()
    student, teacher = drawn(0, 3, 4, 8, 8), drawn(1, 3, 6, 4, 4)
    error = losses.hint(module.mean(F.avg_pool2d(student, 2)), teacher)  # sizes are matched first
    torch.testing.assert_close(module(student, teacher), error / 5 / 2 + math.log(5) / 2)  # the initial variance is 5


def test_the_variance_is_trained_per_channel_towards_the_mean_square_error() -> None:
    module = losses.VariationalInformation((4,), (6,)).double()
    student, teacher = drawn(0, 50, 4), 3 * drawn(1, 50, 6)
    error = (module.mean(student) - teacher).square().mean(dim=0).detach()  # (6,)
    (slope,) = torch.autograd.grad(module(student, teacher).mean(), module.raw_variance)
    assert torch.equal(slope > 0, error < 5)
    with torch.no_grad():
        module.raw_variance.copy_(torch.log(torch.expm1(error - 1e-5)))
    torch.testing.assert_close(module.variance, error)
    (slope,) = torch.autograd.grad(module(student, teacher).mean(), module.raw_variance)
    assert slope.abs().max() < 1e-12


def test_the_variance_is_reset_without_a_draw() -> None:
    module, generator = losses.VariationalInformation((4,), (6,)), torch.Generator()
    before = generator.get_state()
    nn.init.zeros_(module.raw_variance)
    module.reset(generator)
    assert module.variance.tolist() == pytest.approx([5.0] * 6, rel=1e-6)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("student", "teacher"), [((4,), (6, 2, 2)), ((4, 2, 2), (6,)), ((4, 2), (6, 2))])
def test_variational_information_refuses_unlike_kinds(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="can't be regressed"):
        losses.VariationalInformation(student, teacher)


# The simple recipe.


def simple(weight: Tensor) -> losses.SimpleRecipe:
    module = losses.SimpleRecipe(weight.shape[1], len(weight)).double()
    module.projector.weight.data.copy_(weight)
    return module


def test_the_simple_recipe_equals_a_case_worked_by_hand() -> None:
    """Widths 1: ±2 of the student stand against ∓3 of the teacher, each but for batch norm's 1e-4 made ±1."""
    module = simple(torch.tensor([[2.0]]))
    student, teacher = torch.tensor([[0.0], [2.0]]).double(), torch.tensor([[7.0], [1.0]]).double()
    apart = 2 / math.sqrt(4 + 1e-4) + 3 / math.sqrt(9 + 1e-4)
    value = module(student, teacher)
    assert value.shape == ()
    assert value.item() == pytest.approx(math.log(2 * apart**4 + 1e-5), rel=1e-12)


def test_the_simple_recipe_is_at_its_least_where_the_two_agree() -> None:
    module, same = simple(torch.eye(4)), drawn(0, 5, 4).requires_grad_()
    value = module(same, same)
    value.backward()
    assert value.item() == pytest.approx(math.log(1e-5))
    assert same.grad is not None
    assert same.grad.abs().max() == 0.0


def test_the_simple_recipe_is_free_of_the_teachers_shift_and_scale() -> None:
    module, student, teacher = simple(drawn(2, 6, 4)), drawn(0, 5, 4), drawn(1, 5, 6)
    expected = module(student, teacher)
    torch.testing.assert_close(module(student, teacher + 3), expected)
    torch.testing.assert_close(module(student, 10 * teacher), expected, rtol=1e-3, atol=1e-3)  # for batch norm's 1e-4


def test_the_simple_recipe_gives_one_value_for_a_batch_whose_double_adds_log_2() -> None:
    module, student, teacher = simple(drawn(2, 6, 4)), drawn(0, 5, 4), drawn(1, 5, 6)
    twice = module(student.repeat(2, 1), teacher.repeat(2, 1))
    assert (twice - module(student, teacher)).item() == pytest.approx(math.log(2), rel=1e-6)


def test_the_simple_recipe_can_train_on_no_batch_of_one() -> None:
    module = losses.SimpleRecipe(4, 6)
    with pytest.raises(ValueError, match="batch of one"):
        module(torch.ones(1, 4), torch.ones(1, 6))
    assert module.eval()(torch.ones(1, 4), torch.ones(1, 6)).isfinite()


# Contrastive representation.

INDICES = torch.tensor([7, 0, 4])
Rows = list[list[float]]


def plain_unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(value**2 for value in row))
    return [value / length for value in row]


def plain_score(one: list[float], other: list[float]) -> float:
    return math.exp(sum(a * b for a, b in zip(one, other, strict=True)) / 0.07)


def plain_direction(embeddings: Rows, bank: Rows, negatives: Rows, z: float | None) -> tuple[list[float], float]:
    """The values of one direction, one an example, and its Z."""
    choices = [[index, *map(int, others)] for index, others in zip(INDICES.tolist(), negatives, strict=True)]
    scores = [[plain_score(one, bank[choice]) for choice in row] for one, row in zip(embeddings, choices, strict=True)]
    flat = [score for row in scores for score in row]
    z = z or sum(flat) / len(flat) * EXAMPLES
    noise = len(negatives[0]) / EXAMPLES
    values = [
        -math.log(own / z / (own / z + noise)) - sum(math.log(noise / (score / z + noise)) for score in others)
        for own, *others in scores
    ]
    return values, z


@pytest.mark.parametrize("negatives", [3, 16384])
def test_contrast_equals_a_plain_loop_over_two_steps(negatives: int) -> None:
    """The second step has the first one's Z, and its banks with the batch's rows moved."""
    module = contrast(negatives, momentum=0.25)
    banks = [module.student_bank.tolist(), module.teacher_bank.tolist()]
    zs: list[float | None] = [None, None]
    for step in range(2):
        student, teacher, extra = drawn(step, 3, 4), drawn(step + 9, 3, 6), drawn_for(module, INDICES, step)
        rows = [
            [plain_unit(row) for row in projection(embeddings).tolist()]
            for projection, embeddings in ((module.student_projection, student), (module.teacher_projection, teacher))
        ]
        one, zs[0] = plain_direction(rows[0], banks[1], extra["drawn"].tolist(), zs[0])
        other, zs[1] = plain_direction(rows[1], banks[0], extra["drawn"].tolist(), zs[1])
        value = functional_call(module, extra, (student, teacher, INDICES))
        assert value.tolist() == pytest.approx([a + b for a, b in zip(one, other, strict=True)], rel=1e-10)
        for bank, moved in zip(banks, rows, strict=True):
            for index, row in zip(INDICES.tolist(), moved, strict=True):
                bank[index] = plain_unit([0.25 * a + 0.75 * b for a, b in zip(bank[index], row, strict=True)])
        assert module.log_z.exp().tolist() == pytest.approx(zs, rel=1e-10)
        for bank, buffer in zip(banks, (module.student_bank, module.teacher_bank), strict=True):
            torch.testing.assert_close(buffer, torch.tensor(bank, dtype=torch.float64))


def test_a_moved_bank_does_not_spoil_the_gradient() -> None:
    """In eval mode nothing moves between the forward and the backward pass."""
    student, teacher, module = drawn(0, 3, 4), drawn(1, 3, 6), contrast().eval()
    trained = contrast()
    trained.load_state_dict(module.state_dict())
    for each in (module, trained):
        each(student, teacher, INDICES).sum().backward()
    for one, other in zip(module.parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_banks_and_z_are_in_the_checkpoint_and_the_draw_is_not() -> None:
    state = contrast().state_dict()
    assert {"student_bank", "teacher_bank", "log_z"} < set(state)
    assert "drawn" not in state


def naive_others(labels: Tensor, example: int) -> list[int]:
    """The examples that may be an example's negatives."""
    own = labels[example].item()
    return [other for other, label in enumerate(labels.tolist()) if other != example and (own < 0 or label != own)]


@given(
    labels=st.lists(st.integers(-1, 3), min_size=2, max_size=12).filter(lambda labels: len(set(labels)) > 1),
    seed=st.integers(0, 2**32),
    negatives=st.integers(1, 15),
)
@settings(max_examples=60)
def test_negatives_are_examples_of_other_classes(labels: list[int], seed: int, negatives: int) -> None:
    """Against a naive loop: which examples they are, that each is drawn as often as the others, and how many."""
    known = torch.tensor(labels)
    module = losses.ContrastiveRepresentation(4, 6, known, negatives=negatives)
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randperm(len(labels), generator=generator)
    drawn = module.draw(indices, generator)
    most = max(len(naive_others(known, example)) for example in range(len(labels)))
    assert drawn.shape == (len(labels), min(negatives, most))
    for example, row in zip(indices.tolist(), drawn.tolist(), strict=True):
        others = naive_others(known, example)
        assert set(row) <= set(others)
        counts = [row.count(other) for other in others]
        assert max(counts) <= math.ceil(len(row) / len(others))
        assert min(counts) >= len(row) // len(others)


@pytest.mark.parametrize("negatives", [1, 4, 16384])
def test_negatives_are_uniform_over_the_other_classes(negatives: int) -> None:
    module = contrast(negatives)
    for example in range(EXAMPLES):
        drawn = module.draw(torch.full((20_000,), example), torch.Generator().manual_seed(example))
        counts = drawn.flatten().bincount(minlength=EXAMPLES)
        others = naive_others(LABELS, example)
        assert counts.nonzero().flatten().tolist() == others
        expected = drawn.numel() / len(others)
        assert (counts[others] - expected).abs().max() < 5 * math.sqrt(expected)  # at most a binomial's deviation


@pytest.mark.parametrize("examples", [1150, 5003, 20_000])
def test_of_many_examples_all_of_other_classes_are_taken_once(examples: int) -> None:
    """In single precision the last place would be rounded up to one that does not exist."""
    labels = torch.arange(examples) * 10 // examples
    module = losses.ContrastiveRepresentation(4, 6, labels, negatives=100_000)
    indices = torch.arange(examples)[:: examples // 20]
    smallest = labels.bincount().min()
    for example, row in zip(indices, module.draw(indices, torch.Generator().manual_seed(0)), strict=True):
        others = (labels != labels[example]).nonzero().flatten()
        assert torch.equal(row.unique(), others)
        assert len(row) == examples - smallest


def test_a_draw_is_a_function_of_the_generator() -> None:
    module, indices = contrast(negatives=4), torch.arange(EXAMPLES)
    one, other = (module.draw(indices, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    torch.manual_seed(5)
    assert torch.equal(module.draw(indices, torch.Generator().manual_seed(0)), one)
    assert not torch.equal(one, other)


def test_banks_are_a_function_of_the_generator_and_of_unit_rows() -> None:
    module, other = contrast(), contrast()
    module(drawn(0, 3, 4), drawn(1, 3, 6), INDICES)
    assert module.log_z.isfinite().all()
    for each in (module, other):
        each.reset(torch.Generator().manual_seed(1))
    assert torch.equal(module.student_bank, other.student_bank)
    assert torch.equal(module.log_z, other.log_z)
    assert not torch.equal(module.student_bank, module.teacher_bank)
    other.reset(torch.Generator().manual_seed(2))
    assert not torch.equal(module.student_bank, other.student_bank)
    for bank in (module.student_bank, module.teacher_bank):
        torch.testing.assert_close(bank.norm(dim=1), torch.ones(EXAMPLES, dtype=torch.float64), rtol=1e-6, atol=0)


def test_building_draws_nothing_beyond_the_layers_weights() -> None:
    torch.manual_seed(0)
    contrast()
    after = torch.rand(1)
    torch.manual_seed(0)
    nn.Linear(4, 5)
    nn.Linear(6, 5)
    assert torch.equal(after, torch.rand(1))


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [([0], {}), ([-1], {}), ([2, 2], {}), ([0, 1], {"negatives": 0}), ([0, 1], {"temperature": 0.0}),
     ([0, 1], {"momentum": 1.0})],
)  # fmt: skip
def test_contrast_refuses_what_it_cannot_work_with(labels: list[int], wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"leave no negatives|not at least 1"):
        losses.ContrastiveRepresentation(4, 6, torch.tensor(labels), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("indices", [torch.arange(2), torch.zeros(3, 1, dtype=torch.int64)])
def test_contrast_refuses_indices_that_are_not_one_an_example(indices: Tensor) -> None:
    with pytest.raises(ValueError, match="are not one for each"):
        contrast()(drawn(0, 3, 4), drawn(1, 3, 6), indices)
