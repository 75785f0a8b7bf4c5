"""What the variants of an experiment file stand for: grids, and students of their own with their controls."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.experiment import Experiment, Network
from kdmodels.objectives import PRESETS

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


def test_lists_in_a_variants_own_terms_make_a_grid() -> None:
    own = {"name": "x", "terms": ["soft_targets", {"hint": {"weight": [0.1, 10], "at": ["middle", "last"]}}]}
    experiment = Experiment.model_validate(SHORT | {"variants": [own]})
    assert [variant.name for variant in experiment.variants[1:]] == ["x-hint.weight=0.1", "x-hint.weight=10"]
    assert [variant.terms[1].weight for variant in experiment.variants[1:]] == [0.1, 10]
    assert all(variant.terms[1].at == ["middle", "last"] for variant in experiment.variants[1:])
    assert names({"name": "y", "terms": [{"hard_labels": [1, 2]}, {"dist": {"beta": [1, 3]}}]}) == [
        "hard-labels", *(f"y-hard_labels.weight={w}-dist.beta={b}" for w in (1, 2) for b in (1, 3))]  # fmt: skip


def test_a_grid_over_weights() -> None:
    assert names({"hint": {"weight": [1, 10]}}) == ["hard-labels", "hint-weight=1", "hint-weight=10"]
    assert names({"kd+hint": {"hint.weight": 1, "soft_targets.warmup": 0.5}}) == [
        "hard-labels", "kd+hint-hint.weight=1-soft_targets.warmup=0.5"]  # fmt: skip
    experiment = Experiment.model_validate(
        SHORT | {"variants": [{"kd+hint": {"hint.weight": 1}}, {"dm": {"metric": "cosine"}}]}
    )
    assert [term.weight for term in experiment.variants[1].terms] == [0.1, 0.9, 1]
    assert experiment.variants[2].name == "dm-metric=cosine"
    assert experiment.variants[2].terms[1].hyperparameters == {"metric": "cosine"}


def test_a_preset_takes_the_place_of_its_features() -> None:
    pair = {"student": "network.8", "teacher": "middle"}
    grids = [{"hint": {"at": "deepest", "weight": [1, 2]}}, {"hint": {"at": pair}}, {"kd+hint": {"hint.at": "last"}}]
    several = {"hint": {"at": ["first", "last"]}}  # a list of places is one value
    variants = Experiment.model_validate(SHORT | {"variants": [*grids, several]}).variants[1:]
    assert [(variant.name, variant.terms[-1].pairs) for variant in variants] == [
        ("hint-at=deepest-weight=1", [("deepest", "deepest")]),
        ("hint-at=deepest-weight=2", [("deepest", "deepest")]),
        ("hint-at=network.8+middle", [("network.8", "middle")]),
        ("kd+hint-hint.at=last", [("last", "last")]),
        ("hint-at=first+last", [("first", "first"), ("last", "last")]),
    ]
    assert [term.weight for term in variants[0].terms] == [PRESETS["hint"].terms[0].weight, 1]


def test_a_grid_over_schedules_of_a_preset() -> None:
    grid = {"dkd": {"warmup": [0, 0.5], "cosine": [True, False]}}
    experiment = Experiment.model_validate(SHORT | {"variants": [grid, {"kd": {"hard_labels.cosine": True}}]})
    assert [variant.name for variant in experiment.variants[1:]] == [
        *(f"dkd-warmup={share}-cosine={falls}" for share in ("0", "0.5") for falls in ("true", "false")),
        "kd-hard_labels.cosine=true",
    ]
    assert [(variant.terms[1].warmup, variant.terms[1].cosine) for variant in experiment.variants[1:]] == [
        (0, True), (0, False), (0.5, True), (0.5, False), (0, False)]  # fmt: skip
    assert [term.cosine for term in experiment.variants[-1].terms] == [True, False]
    assert names({"name": "x", "terms": [{"dist": {"cosine": [True, False]}}]})[1:] == [
        "x-dist.cosine=true", "x-dist.cosine=false"]  # fmt: skip


def test_weight_warmup_and_cosine_need_the_loss_s_name_where_two_have_a_teacher() -> None:
    losses, fields = ("hard_labels", "relational_distance", "relational_angle"), ("weight", "warmup", "cosine", "at")
    all_fields = [f"{loss}.{field}" for loss in losses for field in fields]
    known = ", ".join(field for field in all_fields if field != "hard_labels.at")
    for field, value in zip(fields, (2, 0.5, True, "last"), strict=True):
        with pytest.raises(ValidationError, match=f"rkd has no hyperparameter '{field}'; .*allowed: {known}"):
            names({"rkd": {field: value}})


def test_a_grid_over_widths_of_what_is_trained_beside_the_student() -> None:
    grids = [{preset: {"width": [8, 16]}} for preset in ("adversarial", "crd", "review")]
    experiment = Experiment.model_validate(SHORT | {"variants": grids})
    assert [variant.terms[1].hyperparameters["width"] for variant in experiment.variants[1:]] == [8, 16] * 3
    assert "width" not in PRESETS["review"].terms[1].hyperparameters  # it follows from the student


def test_a_grid_changes_just_its_hyperparameter() -> None:
    experiment = Experiment.model_validate(SHORT | {"variants": [{"kd+hint": {"temperature": 2}}]})
    terms = {term.loss: term for term in experiment.variants[1].terms}
    assert terms["soft_targets"].hyperparameters == {"temperature": 2}
    assert {loss: term.weight for loss, term in terms.items()} == {"hard_labels": 0.1, "soft_targets": 0.9, "hint": 100}
    assert PRESETS["kd+hint"].terms[1].hyperparameters == {"temperature": 4}


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


def test_a_control_of_ones_own_is_not_doubled() -> None:
    own = {"name": "wide-alone", "terms": "hard-labels", "student": WIDE}
    experiment = changed({"name": "wide", "terms": "kd", "student": WIDE}, own)
    assert [variant.name for variant in experiment.variants] == ["hard-labels", "wide", "wide-alone"]
    assert experiment.control_of(experiment.variants[1]).name == "wide-alone"


def test_a_student_changed_into_itself_is_the_same_student() -> None:
    experiment = changed({"name": "again", "terms": "kd", "student": {"epochs": SHORT["student"]["epochs"]}})
    assert experiment.variants[1].student is None
    assert [variant.name for variant in experiment.variants] == ["hard-labels", "again"]


def test_a_control_s_name_that_is_taken_is_told() -> None:
    taken = {"name": "hard-labels-of-wide", "terms": "hint"}
    with pytest.raises(ValidationError, match="'hard-labels-of-wide' is the control's name for 'wide'"):
        changed(taken, {"name": "wide", "terms": "kd", "student": WIDE})
