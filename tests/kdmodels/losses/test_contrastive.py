"""Contrastive representation distillation, against plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from kdmodels import losses
from tests.kdmodels.losses.samples import EXAMPLES, LABELS, contrast, drawn, drawn_for

INDICES = torch.tensor([7, 0, 4])
Rows = list[list[float]]


def plain_unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(value**2 for value in row))
    return [value / length for value in row]


def plain_score(one: list[float], other: list[float]) -> float:
    return math.exp(sum(a * b for a, b in zip(one, other, strict=True)) / 0.07)


def plain_direction(embeddings: Rows, bank: Rows, negatives: Rows, z: float | None) -> tuple[list[float], float]:
    """Return the values of one direction, one per example, and its Z."""
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
    """The second step uses the first step's Z and the moved bank rows."""
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
    """In eval mode, no bank row moves between the forward and the backward pass."""
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
    """Return the examples that may be negatives of an example."""
    own = labels[example].item()
    return [other for other, label in enumerate(labels.tolist()) if other != example and (own < 0 or label != own)]


@given(
    labels=st.lists(st.integers(-1, 3), min_size=2, max_size=12).filter(lambda labels: len(set(labels)) > 1),
    seed=st.integers(0, 2**32),
    negatives=st.integers(1, 15),
)
@settings(max_examples=60)
def test_negatives_are_examples_of_other_classes(labels: list[int], seed: int, negatives: int) -> None:
    """Compare with a plain loop: which examples are drawn, how often each, and how many."""
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
def test_with_many_examples_each_of_another_class_is_taken_once(examples: int) -> None:
    """In single precision, the last index would be rounded up to one that does not exist."""
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
def test_contrast_refuses_invalid_arguments(labels: list[int], wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"none has negatives|Allowed: negatives of at least 1"):
        losses.ContrastiveRepresentation(4, 6, torch.tensor(labels), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("indices", [torch.arange(2), torch.zeros(3, 1, dtype=torch.int64)])
def test_contrast_refuses_indices_that_are_not_one_per_example(indices: Tensor) -> None:
    with pytest.raises(ValueError, match="expected one index per example"):
        contrast()(drawn(0, 3, 4), drawn(1, 3, 6), indices)
