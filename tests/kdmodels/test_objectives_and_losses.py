"""The table of losses says of each function what the function itself says."""

import inspect

import pytest

from kdmodels import losses
from kdmodels.objectives import LOSSES, PRESETS

SECOND = {"labels": "labels", "logits": "teacher_logits", "features": "teacher_features"}


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_the_table_equals_the_functions_signature(name: str) -> None:
    given = inspect.signature(getattr(losses, name)).parameters
    assert list(given)[1] == SECOND[LOSSES[name].needs]
    defaults = {key: p.default for key, p in given.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert defaults == {key: known.default for key, known in LOSSES[name].hyperparameters.items()}


def test_every_loss_with_a_row_is_in_some_preset() -> None:
    used = {term.loss for preset in PRESETS.values() for term in preset.terms}
    assert used == set(LOSSES)
