"""Users' own losses are tried before the training: their values, their gradient, and torch.func.vmap."""

import pytest
import torch

from kdmodels.errors import UsageError
from kdmodels.experiment.terms import Term
from kdmodels.losses.term_loss import LossInputs, LossSetting, TermLoss
from kdmodels.losses.user_loss import UserLoss, builder_of
from kdmodels.networks import initialise
from kdmodels.randomness import generator_for

OWN = "tests.support.losses:"


def built(name: str, places: int = 1, **hyperparameters: float | str) -> TermLoss:
    term = Term.model_validate({f"{OWN}{name}": hyperparameters})
    assert term.inputs is not None
    shapes = ([(4,)] * places, [(6,)] * places) if "features" in term.row.needs else ([], [])
    if name == "relations":
        shapes = ([(4,)], [(4,)])
    return builder_of(term.loss, term.inputs)(
        LossSetting(term.hyperparameters, *shapes, classes=3, labels=torch.arange(9) % 3)
    )


@pytest.mark.parametrize(
    ("name", "per_batch", "vmaps"),
    [
        ("soft", False, True),
        ("smoothed", False, True),
        ("correlated", True, True),  # one value per batch
        ("relations", True, True),  # one value per example, which depends on the other examples
        ("by_numpy", True, False),
        ("noisy", True, False),  # replicas that share a generator would depend on each other
        ("Scaled", False, True),
        ("Projected", False, True),
    ],
)
def test_a_trial_tells_how_a_loss_is_computed(name: str, per_batch: bool, vmaps: bool) -> None:
    loss = built(name)
    assert (loss.per_batch, loss.vmaps) == (per_batch, vmaps)


def test_arguments_are_passed_by_name_and_type() -> None:
    assert not built("everything", count=2).per_batch


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("undefined", "^returned nan for random examples. Allowed: finite values$"),
        ("constant", "^has no gradient for student_logits. Allowed: a loss that trains the student$"),
        ("swapped", "^has no gradient for student_logits"),
        ("steep", "^has a gradient of infinity or NaN for random examples. Allowed: finite gradients$"),
        (
            "by_class",
            r"^returned shape \(3,\) for 11 examples. Allowed: one value per example, \(B,\), or one per batch",
        ),
        ("of_batch", r"^returned shape \(\) for 11 examples. Allowed: one value per example, \(B,\)$"),
        ("number", "^raised TypeError: expected Tensor as element 0"),
        ("failing", "^raised RuntimeError: no luck$"),
        ("Frozen", "^the frozen parameters 0.loss.scale would be trained. Allowed: buffers$"),
    ],
)
def test_a_loss_that_cannot_be_trained_with_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(name)


def test_a_class_that_is_no_module_is_an_error() -> None:
    with pytest.raises(UsageError, match=f"^terms: the class {OWN}Plain is not a torch.nn.Module$"):
        built("Plain")


def test_a_loss_whose_signature_changed_is_an_error() -> None:
    setting = LossSetting({}, [], [], 3, torch.arange(3))
    with pytest.raises(ValueError, match=r"^its positional arguments are student_logits, labels, but the .*"):
        builder_of(f"{OWN}smoothed", ["student_logits"])(setting)
    with pytest.raises(ValueError, match=r"^eps: .* has no hyperparameter 'eps'"):
        builder_of(f"{OWN}smoothed", ["student_logits", "labels"])(LossSetting({"eps": 1}, [], [], 3, torch.arange(3)))


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    inputs = LossInputs(student, teacher, torch.arange(5) % 3, torch.arange(5), [], [])
    loss = built("Scaled")
    loss.value(inputs, loss.modules).sum().backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_a_class_has_a_module_per_place_that_a_seed_initialises() -> None:
    loss = built("Projected", places=2, initial=5.0)
    assert loss.modules is not None
    first = {name: tensor.clone() for name, tensor in loss.modules.state_dict().items()}
    assert first.keys() == {f"{place}.loss.{name}" for place in (0, 1) for name in ("bias", "regressor.weight")}
    for _ in range(2):
        initialise(loss.modules, generator_for(0, "own"))
        again = loss.modules.state_dict()
        assert not any(torch.equal(again[name], first[name]) for name in first)
        second = {name: tensor.clone() for name, tensor in again.items()}
    initialise(loss.modules, generator_for(0, "own"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in loss.modules.state_dict().items())
    assert isinstance(loss.modules[0], UserLoss)  # type: ignore[index]
    assert 4 < second["0.loss.bias"].mean() < 6
