"""Which models a teacher may be registered as."""

import pytest

from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.register_teacher import require_model_of_teachers, require_one_teacher
from tests.conftest import SMALL, Recorded

EXPERIMENT = Experiment.model_validate(SMALL)


def test_a_model_of_students_is_refused(recorded: Recorded) -> None:
    assert tracking.champion("small-student") is not None
    other = Experiment.model_validate(SMALL | {"name": "another"})
    for experiment in (EXPERIMENT, other):
        with pytest.raises(
            UsageError, match=r"^--as small-student: this is a model of students\. Allowed: another name$"
        ):
            require_model_of_teachers("small-student", experiment)
    with pytest.raises(UsageError, match=r"^--as another-student: this is a model of students"):
        require_model_of_teachers("another-student", other)
    require_model_of_teachers("small-teacher", EXPERIMENT)


def test_an_ensemble_is_refused() -> None:
    require_one_teacher(EXPERIMENT)
    ensemble = Experiment.model_validate(SMALL | {"teacher": [SMALL["teacher"], SMALL["teacher"]]})
    with pytest.raises(
        UserError, match=r"^teacher\.ensemble: an ensemble can't be registered\. Allowed: a single teacher$"
    ):
        require_one_teacher(ensemble)
