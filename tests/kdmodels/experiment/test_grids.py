"""Lists of values make a grid of variants."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.experiment import Experiment
from kdmodels.experiment.presets import PRESETS
from kdmodels.experiment.schema import explain
from kdmodels.experiment.terms import Calibrated

SHORT: dict[str, Any] = {
    "name": "mine",
    "data": "mnist",
    "teacher": {"network": {"mlp": [128, 64]}, "epochs": 5},
    "student": {"network": {"mlp": [32]}, "epochs": 5},
}


def names(*variants: object) -> list[str]:
    return [variant.name for variant in Experiment.model_validate(SHORT | {"variants": list(variants)}).variants]


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
    assert [term.weight for term in experiment.variants[1].terms] == [1, Calibrated(auto=1), 1]
    assert experiment.variants[2].name == "dm-metric=cosine"
    assert experiment.variants[2].terms[1].hyperparameters == {"metric": "cosine"}


def test_a_grid_over_calibrated_weights() -> None:
    grid = {"hint": {"weight": ["auto", {"auto": 0.3}, 2]}}
    assert names(grid) == ["hard-labels", "hint-weight=auto", "hint-weight=auto-0.3", "hint-weight=2"]
    variants = Experiment.model_validate(SHORT | {"variants": [grid]}).variants[1:]
    assert [variant.terms[1].weight for variant in variants] == [Calibrated(auto=1), Calibrated(auto=0.3), 2]
    own = {"name": "mine", "terms": ["hard_labels", {"hint": ["auto", {"auto": 3}]}]}
    assert names(own) == ["hard-labels", "mine-hint.weight=auto", "mine-hint.weight=auto-3"]


def test_a_preset_with_published_weights() -> None:
    grid = {"kd": {"published": [False, True], "temperature": 2}}
    first, second = Experiment.model_validate(SHORT | {"variants": [grid]}).variants[1:]
    assert (first.name, second.name) == ("kd-published=false-temperature=2", "kd-published=true-temperature=2")
    assert [term.weight for term in first.terms] == [1, Calibrated(auto=1)]
    assert [term.weight for term in second.terms] == [0.1, 0.9]
    assert {term.hyperparameters["temperature"] for term in (first.terms[1], second.terms[1])} == {2}
    changed = Experiment.model_validate(SHORT | {"variants": [{"kd": {"weight": 3, "published": True}}]}).variants[1]
    assert [term.weight for term in changed.terms] == [0.1, 3]


@pytest.mark.parametrize(("grid", "field", "weight"), [
    ({"kd": {"published": True, "weight": "auto"}}, "variants.0.kd.weight", "'auto'"),
    ({"kd": {"weight": [2, {"auto": 0.3}], "published": [False, True]}}, "variants.0.kd.weight", '{"auto": 0.3}'),
    ({"kd+hint": {"published": True, "hint.weight": "auto"}}, "variants.0.kd+hint.hint.weight", "'auto'"),
])  # fmt: skip
def test_published_weights_exclude_a_calibrated_weight(grid: object, field: str, weight: str) -> None:
    with pytest.raises(ValidationError) as error:
        Experiment.model_validate(SHORT | {"variants": [grid]})
    ((path, text),) = [explain(detail, Experiment) for detail in error.value.errors()]
    assert ".".join(map(str, path)) == field
    assert text == (
        f"{weight} asks for a calibrated weight, and published: true for the published weights. "
        "Allowed: a number, or published: false"
    )
    names({"kd": {"published": False, "weight": "auto"}})


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
        with pytest.raises(ValidationError, match=f"rkd has no hyperparameter '{field}'. .*Allowed: {known}"):
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
    auto = Calibrated(auto=1)
    assert {loss: term.weight for loss, term in terms.items()} == {"hard_labels": 1, "soft_targets": auto, "hint": auto}
    assert PRESETS["kd+hint"].terms[1].hyperparameters == {"temperature": 4}
