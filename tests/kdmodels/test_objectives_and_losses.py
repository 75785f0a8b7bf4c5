"""The table of losses says of each function what the function itself says."""

import inspect

import pytest

from kdmodels import losses
from kdmodels.catalogue import LOSSES
from kdmodels.objectives import PRESETS

SECOND = {
    "labels": ["labels"],
    "logits": ["teacher_logits"],
    "logits and labels": ["teacher_logits", "labels"],
}
FUNCTIONS = [name for name, loss in LOSSES.items() if loss.module is None]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_row_of_the_table_equals_the_functions_signature(name: str) -> None:
    given = inspect.signature(getattr(losses, name)).parameters
    positional = [key for key, p in given.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if LOSSES[name].needs == "features":
        assert [key.partition("_")[0] for key in positional] == ["student", "teacher"]
    else:
        assert positional[1:] == SECOND[LOSSES[name].needs]
    defaults = {key: p.default for key, p in given.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert defaults == {key: known.default for key, known in LOSSES[name].hyperparameters.items()}


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - FUNCTIONS))
def test_a_row_of_a_module_has_the_numbers_of_its_constructor(name: str) -> None:
    given = inspect.signature(getattr(losses, LOSSES[name].module or "")).parameters
    for key, known in LOSSES[name].hyperparameters.items():
        assert given[key].default == known.default


def test_every_loss_is_in_some_preset() -> None:
    used = {term.loss for preset in PRESETS.values() for term in preset.terms}
    assert used == set(LOSSES)
