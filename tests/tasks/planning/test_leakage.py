"""Registered teachers whose runs do not record their training images, such as students of an earlier comparison."""

from kdmodels.experiment import Experiment
from tasks.planning.leakage import check_registered_teachers
from tasks.prepare_data import prepare_data
from tests.conftest import SMALL, Recorded


def check(validation: float) -> tuple[list[str], list[str]]:
    changes = {"data": {"source": "digits", "validation": validation}, "teacher": {"registry": "small-student"}}
    experiment = Experiment.model_validate(SMALL | changes)
    return check_registered_teachers(experiment, [prepare_data.fn(experiment.data, None)])


def test_a_student_of_the_same_data_was_not_trained_on_the_validation_split(recorded: Recorded) -> None:
    assert check(SMALL["data"]["validation"]) == ([], [])


def test_a_student_of_other_data_may_have_been(recorded: Recorded) -> None:
    notes, warnings = check(0.4)
    assert notes == [
        "teacher.registry: small-student may have been trained on the validation examples: its run does not record its "
        "training images"
    ]
    assert warnings == []
