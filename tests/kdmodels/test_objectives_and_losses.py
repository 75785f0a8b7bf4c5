"""The table of losses says of each function what the function itself says."""

import inspect

import pytest
import torch
from torch import nn

from kdmodels import losses
from kdmodels.catalogue import LOSSES
from kdmodels.objectives import PRESETS
from kdmodels.terms import Term
from kdmodels.training.own import own_modules

SECOND = {
    "labels": ["labels"],
    "logits": ["teacher_logits"],
    "logits and labels": ["teacher_logits", "labels"],
}
MAPS = [((4, 8, 8), (6, 8, 8)), ((8, 4, 4), (12, 4, 4))]
"""Of the student and the teacher, at two places; their channels differ, so that all that can be trained is built."""
FUNCTIONS = [name for name, loss in LOSSES.items() if loss.module is None]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_what_its_row_of_the_table_says(name: str) -> None:
    given = inspect.signature(getattr(losses, name)).parameters
    positional = [key for key, p in given.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if LOSSES[name].needs == "features":
        assert [key.partition("_")[0] for key in positional] == ["student", "teacher"]
    else:
        assert positional[1:] == SECOND[LOSSES[name].needs]


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_the_table_has_all_the_defaults_of_the_function_and_of_the_modules_it_trains(name: str) -> None:
    own = own_modules(
        Term(loss=name), MAPS if LOSSES[name].needs == "features" else [], classes=3, labels=torch.arange(9) % 3
    )
    built = [] if own is None else list(own) if isinstance(own, nn.ModuleList) else [own]
    signatures = [inspect.signature(type(module)) for module in built]
    if LOSSES[name].module is None:
        signatures.append(inspect.signature(getattr(losses, name)))
    else:
        assert {type(module).__name__ for module in built} == {LOSSES[name].module}
    defaults = {
        key: parameter.default
        for signature in signatures
        for key, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or parameter.default is not inspect.Parameter.empty
    }
    assert defaults == {key: known.default for key, known in LOSSES[name].hyperparameters.items()}


def test_every_loss_is_in_some_preset() -> None:
    used = {term.loss for preset in PRESETS.values() for term in preset.terms}
    assert used == set(LOSSES)
