"""What the variants of an experiment file stand for: grids, and students of their own with their controls."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.experiment import Experiment, Network

SHORT: dict[str, Any] = {
    "name": "mine",
    "data": "mnist",
    "teacher": {"network": {"mlp": [128, 64]}, "epochs": 5},
    "student": {"network": {"mlp": [32]}, "epochs": 5},
}


def names(*variants: object) -> list[str]:
    return [variant.name for variant in Experiment.model_validate(SHORT | {"variants": list(variants)}).variants]


def test_the_names_of_variants() -> None:
    assert names("kd", {"kd": {"temperature": [8, 2.5]}}) == [
        "hard-labels", "kd", "kd-temperature=8", "kd-temperature=2.5"]  # fmt: skip
    assert names({"label-smoothing": {"epsilon": 0.2}}) == ["hard-labels", "label-smoothing-epsilon=0.2"]
    assert names({"kd": {}}, "hard-labels") == ["kd", "hard-labels"]
    assert names({"name": "x", "terms": "hint"}) == ["hard-labels", "x"]


WIDE = {"network": {"mlp": [64]}, "epochs": 9}


def changed(*variants: Any) -> Experiment:
    return Experiment.model_validate(SHORT | {"variants": list(variants)})


def test_a_variant_changes_what_it_names_of_the_student_and_nothing_else() -> None:
    experiment = changed({"name": "wide", "terms": "kd", "student": WIDE}, "kd")
    wide, same = experiment.variants[2:]
    assert experiment.student_of(wide) == experiment.student.model_copy(
        update={"network": Network(mlp=[64]), "epochs": 9}
    )
    assert experiment.student_of(same) == experiment.student


def test_each_distinct_student_has_its_control_once() -> None:
    wider = {"name": "wide-hint", "terms": "hint", "student": WIDE}
    experiment = changed("kd", {"name": "wide", "terms": "kd", "student": WIDE}, wider)
    names = [variant.name for variant in experiment.variants]
    assert names == ["hard-labels", "kd", "hard-labels-of-wide", "wide", "wide-hint"]
    controls = [experiment.control_of(variant).name for variant in experiment.variants]
    assert controls == ["hard-labels"] * 2 + ["hard-labels-of-wide"] * 3
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment


def test_a_control_in_the_file_is_not_added_again() -> None:
    own = {"name": "wide-alone", "terms": "hard-labels", "student": WIDE}
    experiment = changed({"name": "wide", "terms": "kd", "student": WIDE}, own)
    assert [variant.name for variant in experiment.variants] == ["hard-labels", "wide", "wide-alone"]
    assert experiment.control_of(experiment.variants[1]).name == "wide-alone"


def test_a_student_changed_into_itself_is_the_same_student() -> None:
    experiment = changed({"name": "again", "terms": "kd", "student": {"epochs": SHORT["student"]["epochs"]}})
    assert experiment.variants[1].student is None
    assert [variant.name for variant in experiment.variants] == ["hard-labels", "again"]


def test_all_students_see_the_same_images() -> None:
    with pytest.raises(ValidationError, match=r"\[\] differs from the experiment's, and all students see the same ima"):
        changed({"name": "plain", "terms": "kd", "student": {"augment": []}})


def test_a_variant_can_not_take_the_name_of_a_control() -> None:
    taken = {"name": "hard-labels-of-wide", "terms": "hint"}
    with pytest.raises(ValidationError, match="'hard-labels-of-wide' is the name of the control for 'wide'"):
        changed(taken, {"name": "wide", "terms": "kd", "student": WIDE})


MORE = {"data": {"source": "./photos", "transfer": {"unlabelled": "./more"}}}
EQUAL = {"name": "hard-labels-equal-steps", "terms": "hard-labels", "equal_steps": True}


def with_more_images(*variants: Any) -> Experiment:
    return Experiment.model_validate(SHORT | MORE | {"variants": list(variants)})


def controls(experiment: Experiment) -> dict[str, str]:
    return {variant.name: experiment.control_of(variant).name for variant in experiment.variants}


def test_with_unlabelled_images_distilled_students_have_a_control_with_as_many_steps() -> None:
    experiment = with_more_images("label-smoothing", "kd")
    assert controls(experiment) == {
        "hard-labels": "hard-labels",
        "hard-labels-equal-steps": "hard-labels-equal-steps",
        "label-smoothing": "hard-labels",
        "kd": "hard-labels-equal-steps",
    }
    assert [variant.equal_steps for variant in experiment.variants] == [False, True, False, False]
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment
    assert [variant.name for variant in experiment.only(["kd"]).variants] == [
        "hard-labels", "hard-labels-equal-steps", "kd"]  # fmt: skip


def test_without_distilled_students_or_unlabelled_images_no_control_repeats_its_examples() -> None:
    assert list(controls(with_more_images("label-smoothing"))) == ["hard-labels", "label-smoothing"]
    assert list(controls(changed("kd"))) == ["hard-labels", "kd"]


def test_every_student_has_its_control_with_as_many_steps() -> None:
    experiment = with_more_images("kd", {"name": "wide", "terms": "kd", "student": WIDE}, EQUAL)
    assert controls(experiment) == {
        "hard-labels": "hard-labels",
        "kd": "hard-labels-equal-steps",
        "hard-labels-of-wide": "hard-labels-of-wide",
        "hard-labels-of-wide-equal-steps": "hard-labels-of-wide-equal-steps",
        "wide": "hard-labels-of-wide-equal-steps",
        "hard-labels-equal-steps": "hard-labels-equal-steps",
    }


def test_a_variant_can_not_take_the_name_of_a_control_with_as_many_steps() -> None:
    with pytest.raises(ValidationError, match="'hard-labels-equal-steps' is the name of the control for 'kd'"):
        with_more_images("kd", {"name": "hard-labels-equal-steps", "terms": "hint"})
