"""Properties of the adversarial term, for which no reference exists."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from kdmodels import losses

HALF = [torch.float16, torch.bfloat16]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def adversary(classes: int = 3) -> losses.Adversarial:
    """One whose weights are drawn from a fixed seed."""
    module = losses.Adversarial(classes)
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(0.3 * drawn(seed, *parameter.shape))
    return module


def clouds() -> tuple[Tensor, Tensor]:
    """Logits of a student and of a teacher, about two different points."""
    return drawn(0, 64, 3) + torch.tensor([2.0, 0.0, 0.0]), drawn(1, 64, 3) + torch.tensor([0.0, 2.0, 0.0])


def trained(student: Tensor, teacher: Tensor, *, steps: int, rate: float = 0.0) -> tuple[losses.Adversarial, Tensor]:
    """Return a trained discriminator, and the student's logits after as many steps against it."""
    module, moving = adversary(), student.clone().requires_grad_()
    optimizers = [torch.optim.Adam(module.parameters(), lr=0.01), torch.optim.SGD([moving], lr=rate)]
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        (module(moving, teacher) + module.discriminator_loss(moving, teacher)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    return module, moving.detach()


def odds(module: losses.Adversarial, logits: Tensor) -> Tensor:
    return module.discriminator(logits).squeeze(1)


def test_the_terms_are_cross_entropies_of_the_discriminators_verdict() -> None:
    module, (student, teacher) = adversary(), clouds()
    real, fake = odds(module, teacher).sigmoid(), odds(module, student).sigmoid()
    torch.testing.assert_close(module(student, teacher), -fake.log())
    torch.testing.assert_close(module.discriminator_loss(student, teacher), -real.log() - (1 - fake).log())


def test_an_undecided_discriminator_gives_log_2_and_2_log_2() -> None:
    module, (student, teacher) = adversary(), clouds()
    for parameter in list(module.parameters())[2:]:  # the last layer's
        torch.nn.init.zeros_(parameter)
    assert module(student, teacher).tolist() == pytest.approx([math.log(2)] * 64)
    assert module.discriminator_loss(student, teacher).tolist() == pytest.approx([2 * math.log(2)] * 64)


def test_the_students_term_reaches_the_student_alone() -> None:
    module, (student, teacher) = adversary(), clouds()
    module(student.requires_grad_(), teacher.requires_grad_()).sum().backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_discriminators_term_reaches_the_discriminator_alone() -> None:
    module, (student, teacher) = adversary(), clouds()
    module.discriminator_loss(student.requires_grad_(), teacher.requires_grad_()).sum().backward()
    assert student.grad is None
    assert teacher.grad is None
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_the_trained_discriminator_separates_two_clouds() -> None:
    student, teacher = clouds()
    module, _ = trained(student, teacher, steps=100)
    assert (odds(module, teacher) > 0).float().mean() > 0.9
    assert (odds(module, student) < 0).float().mean() > 0.9


def test_following_the_students_term_moves_its_logits_to_the_teachers() -> None:
    student, teacher = clouds()
    _, moved = trained(student, teacher, steps=100, rate=0.05)
    apart, now = ((logits.mean(dim=0) - teacher.mean(dim=0)).norm() for logits in (student, moved))
    assert now < apart / 5


@pytest.mark.parametrize("teacher", [(1, 3), (4, 1), (4, 3, 1)])
def test_shapes_that_would_broadcast_are_refused(teacher: tuple[int, ...]) -> None:
    module = adversary()
    for term in (module.forward, module.discriminator_loss):
        with pytest.raises(ValueError, match="differ in shape"):
            term(torch.ones(4, 3), torch.ones(teacher))


@given(
    scales=st.lists(st.sampled_from([0.0, 1.0, -1e4, 1e4]), min_size=1, max_size=3),
    classes=st.sampled_from([2, 10]),
    dtype=st.sampled_from([*HALF, torch.float32, torch.float64]),
    autocast=st.booleans(),
)
@settings(max_examples=40)
def test_value_and_gradient_are_finite(scales: list[float], classes: int, dtype: torch.dtype, autocast: bool) -> None:
    module, by_row = adversary(classes), torch.tensor(scales).unsqueeze(1)
    student = (drawn(0, len(scales), classes).clamp(-1, 1) * by_row).to(dtype).requires_grad_()
    teacher = (drawn(1, len(scales), classes).clamp(-1, 1) * by_row.flip(0)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        values = [module(student, teacher), module.discriminator_loss(student, teacher)]
    sum(value.sum() for value in values).backward()
    assert all(value.shape == (len(scales),) and value.isfinite().all() for value in values)
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in module.parameters())


def test_the_discriminator_is_checkpointed() -> None:
    module, other, (student, teacher) = adversary(), losses.Adversarial(3), clouds()
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(student, teacher), module(student, teacher))


def test_stacked_replicas_equal_a_loop() -> None:
    single = [losses.Adversarial(3), losses.Adversarial(3)]
    params, _ = stack_module_state(single)
    student, teacher = drawn(0, 2, 5, 3).requires_grad_(), drawn(1, 2, 5, 3)

    class Both(torch.nn.Module):  # functional_call calls a module's forward
        def __init__(self) -> None:
            super().__init__()
            self.own = single[0]

        def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
            return self.own(student, teacher), self.own.discriminator_loss(student, teacher)

    both = Both()

    def terms(params: dict[str, Tensor], student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return functional_call(both, {f"own.{name}": value for name, value in params.items()}, (student, teacher))

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where vmap falls back to a loop
        stacked = vmap(terms)(params, student, teacher)
        sum(term.sum() for term in stacked).backward()  # type: ignore[union-attr]
    for row, module in enumerate(single):
        row_logits = student[row].detach().requires_grad_()
        value, own = module(row_logits, teacher[row]), module.discriminator_loss(row_logits, teacher[row])
        torch.testing.assert_close((stacked[0][row], stacked[1][row]), (value, own))
        (value.sum() + own.sum()).backward()
        torch.testing.assert_close(student.grad[row], row_logits.grad)  # type: ignore[index]
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(params[name].grad[row], parameter.grad)
