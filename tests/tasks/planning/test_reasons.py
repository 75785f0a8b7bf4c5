"""Reasons why a planned run is not reused, with earlier runs made by hand."""

import json
from dataclasses import replace
from typing import Any

import pytest

from kdmodels.run_status import RunStatus
from tasks.planning import reasons
from tasks.planning.keys import run_key
from tasks.planning.reasons import explain_miss
from tasks.references import PlannedRun
from tasks.tracking import Run
from tasks.tracking.tags import Tag

PARAMS = {"code": {"training": 1}, "data": {"digest": "d"}, "epochs": 4, "source": {"nets": "s"}, "teacher": "t"}


def planned(seeds: tuple[int, ...] = (0, 1), **changes: Any) -> PlannedRun:
    key = run_key(PARAMS | changes, seeds)
    return PlannedRun(
        name="kd", kind="student", action="train", reason="", key=key.key, replicas=key.replicas, params=key.params,
        seeds=list(seeds),
    )  # fmt: skip


def recorded(step: PlannedRun, run_id: str = "0123456789", status: RunStatus = RunStatus.FINISHED) -> Run:
    """Return the run that a planned run became."""
    params = {name: str(value) for name, value in step.params.items()} | {"seeds": str(step.seeds)}
    tags = {Tag.REPLICAS: step.replicas, Tag.SEEDS: json.dumps(step.seeds)}
    return Run(run_id, step.name, "e", step.kind, status, 0, 0, 1, step.key, None, tags, params, {})


@pytest.fixture(autouse=True)
def no_interrupted_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "interrupted", lambda step, experiment: None)


def test_the_run_with_most_of_the_seeds_is_extended() -> None:
    runs = [recorded(planned((0,)), "one-seed"), recorded(planned((1, 2)), "two-seeds")]
    step = explain_miss(planned((0, 1, 2)), runs, "e")
    assert (step.action, step.source) == ("extend", "two-seeds")
    assert step.reason == "run two-seed has seeds 1, 2; seeds 0 are missing"
    assert explain_miss(planned((2,)), runs, "e").reason == "run two-seed has seeds 2; no other seeds are needed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 5}, "epochs: 4 -> 5"),
        ({"data": {"digest": "x"}, "teacher": "x"}, "the data changed, its teacher changed"),
        ({"source": {"nets": "x"}}, "nets changed"),
        ({"source": {"others": "s"}}, "nets is gone, others is new"),
        ({"code": {"training": 2}}, "kdflow's results of training changed"),
        ({"members": ["a"]}, "it is an ensemble now"),
        ({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1},
         "a: absent -> 1, b: absent -> 1, c: absent -> 1, d: absent -> 1 and 2 more"),
    ],
)  # fmt: skip
def test_the_changes_since_the_last_run_are_the_reason(changes: dict[str, Any], reason: str) -> None:
    step = explain_miss(planned(**changes), [recorded(planned())], "e")
    assert (step.action, step.reason) == ("train", reason)


def test_the_most_similar_of_all_earlier_runs_is_compared() -> None:
    runs = [recorded(planned(epochs=9, teacher="x")), recorded(planned(epochs=3))]
    assert explain_miss(planned(), runs, "e").reason == "epochs: 3 -> 4"


def test_a_run_with_the_same_key_that_did_not_finish_is_the_reason() -> None:
    failed = recorded(planned(), status=RunStatus.FAILED)
    assert explain_miss(planned(), [failed], "e").reason == "run 01234567 is FAILED"


def test_a_run_without_an_earlier_run_of_its_name_is_new() -> None:
    assert explain_miss(planned(), [], "e").reason == "new: it has not run before"


def test_the_calibrated_weights_of_a_run_are_no_change() -> None:
    earlier = recorded(planned())
    earlier = replace(earlier, params=earlier.params | {"calibrated.hint": "0.5"})
    assert explain_miss(planned(epochs=5), [earlier], "e").reason == "epochs: 4 -> 5"
