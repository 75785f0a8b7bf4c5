"""Regressors of the student's features, and maps of equal size."""

import pytest
import torch
from torch import nn

from kdmodels import losses
from kdmodels.experiment import Term
from kdmodels.losses.term_loss import LossInputs
from kdmodels.training.loss_modules import build_loss
from tests.kdmodels.losses.samples import drawn


def test_match_size_averages_each_side_down_to_the_smaller() -> None:
    student, teacher = torch.arange(16.0).reshape(1, 1, 2, 8), torch.arange(8.0).reshape(1, 1, 4, 2)
    one, other = losses.match_size(student, teacher)
    assert one.tolist() == [[[[1.5, 5.5], [9.5, 13.5]]]]
    assert other.tolist() == [[[[1.0, 2.0], [5.0, 6.0]]]]


@pytest.mark.parametrize(
    ("student", "teacher", "output"),
    [((3, 8, 8), (5, 4, 4), (2, 5, 8, 8)), ((3, 4, 4), (5, 4, 4), (2, 5, 4, 4)), ((3,), (5,), (2, 5))],
)
def test_the_regressor_maps_channels_alone(
    student: tuple[int, ...], teacher: tuple[int, ...], output: tuple[int, ...]
) -> None:
    assert losses.HintRegressor(student, teacher)(torch.ones(2, *student)).shape == output


@pytest.mark.parametrize("shape", [(3, 4, 4), (3,)])
def test_a_hint_with_relu_compares_rectified_features(shape: tuple[int, ...]) -> None:
    student, teacher = drawn(0, 4, *shape).float(), drawn(1, 4, 5, *shape[1:]).float()
    term = Term.model_validate({"hint": {"activation": "relu"}})
    pairs = [(shape, (5, *shape[1:]))]
    loss = build_loss(term, pairs, classes=3, labels=torch.zeros(4, dtype=torch.long))
    assert isinstance(loss.modules, nn.ModuleList)
    none = torch.empty(0)
    value = loss.value(LossInputs(none, none, none, none, [student], [teacher]), loss.modules)
    assert torch.equal(value, losses.hint(loss.modules[0](student).relu(), teacher))
    with pytest.raises(ValueError, match="activation 'tanh' is neither 'relu' nor None"):
        losses.hint(teacher, teacher, activation="tanh")


@pytest.mark.parametrize(("student", "teacher"), [((3,), (5, 4, 4)), ((3, 4, 4), (5,)), ((3, 4), (5, 4)), ((), ())])
def test_the_regressor_refuses_unlike_kinds(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="can't be regressed"):
        losses.HintRegressor(student, teacher)


def test_the_regressors_own_parameters_are_trained_and_checkpointed() -> None:
    regressor = losses.HintRegressor((3, 4, 4), (5, 4, 4))
    student, teacher = losses.match_size(regressor(drawn(0, 2, 3, 4, 4).float()), drawn(1, 2, 5, 2, 2).float())
    losses.hint(student, teacher).sum().backward()
    trained = {name for name, parameter in regressor.named_parameters() if parameter.grad is not None}
    assert trained == {"0.weight", "1.weight", "1.bias"}
    assert trained | {"1.running_mean", "1.running_var", "1.num_batches_tracked"} == set(regressor.state_dict())


@pytest.mark.parametrize(("student", "teacher"), [((3, 1, 1), (5, 4, 4)), ((3,), (5,))])
def test_the_regressor_cannot_train_on_one_value_per_channel(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    """Torch's error named neither the features nor the cause."""
    regressor = losses.HintRegressor(student, teacher)
    line = rf"features \(1, 3{', 1, 1' if len(student) == 3 else ''}\) have one value per channel. Batch norm"
    with pytest.raises(ValueError, match=line):
        regressor(torch.ones(1, *student))
    assert regressor(torch.ones(2, *student)).isfinite().all()
    assert regressor.eval()(torch.ones(1, *student)).isfinite().all()
    if len(student) == 3:
        assert regressor.train()(torch.ones(1, 3, 1, 2)).isfinite().all()
