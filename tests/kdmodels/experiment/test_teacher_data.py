"""The data on which a teacher is trained: a mapping of the fields that differ from the experiment's data."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.experiment import Data, Experiment
from kdmodels.experiment.schema import explain
from tests.conftest import SMALL

DATA = {
    "source": "digits",
    "validation": 0.2,
    "subset": 100,
    "augment": [{"jitter": 1}],
    "transfer": {"unlabelled": "./more"},
}


def teacher(own: object, data: object = DATA) -> Experiment:
    return Experiment.model_validate(SMALL | {"data": data, "teacher": SMALL["teacher"] | {"data": own}})


def test_the_fields_that_are_left_out_are_those_of_the_students() -> None:
    experiment = teacher({"subset": None})
    assert experiment.teacher.data == Data(source="digits", validation=0.2)
    assert teacher("./more.npz").teacher.data == Data(source="./more.npz", validation=0.2, subset=100)


def test_the_normal_form_is_complete_and_does_not_change() -> None:
    experiment = teacher({"subset": 200})
    for normal in (experiment.model_dump(mode="json"), experiment.model_dump()):
        assert Experiment.model_validate(normal) == experiment
    assert experiment.only(["kd"]).teacher == experiment.teacher


def test_data_that_do_not_differ_are_no_data_of_their_own() -> None:
    assert teacher({}).teacher.data is None
    assert teacher({"subset": 100}).teacher.data is None
    assert teacher(None).teacher.data is None


@pytest.mark.parametrize("form", [list, lambda members: {"ensemble": members}])
def test_each_member_of_an_ensemble_has_its_own(form: Any) -> None:
    one = SMALL["teacher"] | {"data": {"subset": 50}}
    experiment = Experiment.model_validate(SMALL | {"data": DATA, "teacher": form([one, SMALL["teacher"]])})
    first, second = experiment.teacher.members
    assert first.data is not None
    assert (first.data.subset, second.data) == (50, None)


def test_with_folds_of_one_source_only_labelled_may_differ() -> None:
    def folded(**own: object) -> Experiment:
        data = {"source": "digits", "folds": 3, "subset": 200, "labelled": 50}
        return Experiment.model_validate(SMALL | {"data": data, "teacher": SMALL["teacher"] | {"data": own}})

    for own in (folded(labelled=None), folded(source="./more.npz", subset=None)):
        assert own.teacher.data is not None
    with pytest.raises(ValidationError) as error:
        folded(subset=None)
    ((path, text),) = [explain(detail, Experiment) for detail in error.value.errors()]
    assert ".".join(map(str, path)) == "teacher.data.subset"
    assert text == (
        "null differs from the students' data, so the teacher would be trained on images that the folds of the "
        "students hold out. Allowed with data.folds: 200. To give the teacher more labels, set data.labelled and "
        "teacher.data.labelled"
    )


@pytest.mark.parametrize(("change", "message"), [
    ({"size": 16}, "size: 16 differs from that of the students' data, null. All networks take"),
    ({"normalise": "imagenet"}, "normalise: 'imagenet' differs from that of the students' data, null. Write teacher.n"),
    ({"folds": 3, "validation": None}, "folds: 3 differs from that of the students' data, null. Teacher and"),
    ({"augment": [{"jitter": 2}]}, 'augment: [{"jitter": 2}] differs from that of the students\' data, []. Write te'),
    ({"transfer": {"unlabelled": "./x"}}, "A teacher learns from labels only"),
    ({"subst": 3}, "teacher.data.subst: unknown field. Did you mean 'subset'?"),
    ({"subset": 0}, "teacher.data.subset: expected a whole number of at least 1, or null, got 0"),
    ("mnits", "teacher.data.source: unknown source 'mnits'. Did you mean 'mnist'?"),
    (5, "teacher.data: expected a mapping, got 5"),
])  # fmt: skip
def test_a_mistake_names_the_field(change: object, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        teacher(change)
    lines = [explain(detail, Experiment) for detail in error.value.errors()]
    assert any(message in f"{'.'.join(map(str, path))}: {text}" for path, text in lines), lines


def test_wrong_data_of_the_experiment_are_reported_once() -> None:
    with pytest.raises(ValidationError) as error:
        teacher({"subset": None}, {"source": "digits", "subset": 0})
    assert [detail["loc"] for detail in error.value.errors()] == [("data", "subset")]
