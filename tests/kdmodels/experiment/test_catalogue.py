"""The table of losses says of each function what the function itself says."""

import inspect
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import nn

from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.terms import Term
from kdmodels.training.loss_modules import build_loss

SECOND = {
    "labels": ["labels"],
    "logits": ["teacher_logits"],
    "logits and labels": ["teacher_logits", "labels"],
}
MAPS = [((4, 8, 8), (6, 8, 8)), ((8, 4, 4), (12, 4, 4))]
"""Of the student and the teacher, at two places; their channels differ, so that all that can be trained is built."""


def function_of(name: str) -> Callable[..., torch.Tensor]:
    function: Callable[..., torch.Tensor] = getattr(import_module(f"kdmodels.losses.{LOSSES[name].file}"), name)
    return function


FUNCTIONS = [name for name, loss in LOSSES.items() if loss.modules is None]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_what_its_row_of_the_table_says(name: str) -> None:
    given = inspect.signature(function_of(name)).parameters
    positional = [key for key, p in given.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if LOSSES[name].needs == "features":
        assert [key.partition("_")[0] for key in positional] == ["student", "teacher"]
    else:
        assert positional[1:] == SECOND[LOSSES[name].needs]


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_the_table_has_all_the_defaults_of_the_function_and_of_the_modules_it_trains(name: str) -> None:
    own = build_loss(
        Term(loss=name), MAPS if LOSSES[name].needs == "features" else [], classes=3, labels=torch.arange(9) % 3
    ).modules
    built = [] if own is None else list(own) if isinstance(own, nn.ModuleList) else [own]
    signatures = [inspect.signature(type(module)) for module in built]
    if LOSSES[name].modules is None:
        signatures.append(inspect.signature(function_of(name)))
    else:
        assert {type(module).__name__ for module in built} == {LOSSES[name].modules}
    defaults = {
        key: parameter.default
        for signature in signatures
        for key, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or parameter.default is not inspect.Parameter.empty
    }
    assert defaults == {key: known.default for key, known in LOSSES[name].hyperparameters.items()}
