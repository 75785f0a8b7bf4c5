import pytest
from pydantic import ValidationError

from tasks.references import Options, Plan, PlannedRun, StudentReference, Views


def planned(name: str, fold: str = "", **params: object) -> PlannedRun:
    return PlannedRun(
        name=name, kind="student", action="train", reason="new", key="k", replicas="r", params=params, seeds=[0],
        fold=fold,
    )  # fmt: skip


def test_a_reference_is_frozen_and_has_no_other_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Options().fresh = True
    with pytest.raises(ValidationError, match="Extra inputs"):
        Options(speed=1)


def test_a_reference_survives_json() -> None:
    row = StudentReference(
        variant="kd", run_id=None, status="FAILED", reused=False, seeds=[], metrics={}, per_seed={}, parameters=None
    )
    text = row.model_dump_json()
    assert '"status":"FAILED"' in text
    assert StudentReference.model_validate_json(text) == row


def test_the_variant_of_a_fold_is_its_name_without_the_fold() -> None:
    assert planned("kd 2/5", fold="2/5").variant == "kd"
    assert planned("kd").variant == "kd"


@pytest.mark.parametrize(("count", "words"), [(0, "live teacher"), (1, "1 view"), (4, "4 views")])
def test_views_are_described_in_words(count: int, words: str) -> None:
    assert Views(count=count, reason="").action == words


def test_a_plan_lists_its_runs_in_the_order_of_execution() -> None:
    fold = Plan(teacher=planned("t 2/2"), knowledge=Views(count=0, reason=""), students=[planned("kd 2/2")])
    plan = Plan(
        members=[planned("m")], teacher=planned("t"), knowledge=fold.knowledge, students=[planned("kd")], folds=[fold]
    )
    assert [step.name for step in plan.steps] == ["m", "t", "kd", "t 2/2", "kd 2/2"]
    assert not plan.taught
    assert plan.model_copy(update={"students": [planned("kd", teacher="t")]}).taught
