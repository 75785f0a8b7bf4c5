"""Every change of a result is noticed, and the failing test names the version to raise."""

import json
from typing import Any

import pytest

from kdmodels.experiment import Network, Recipe, Term
from kdmodels.versions import VERSIONS, is_outdated, versions
from tests.kdmodels.golden import CASES, FILE, computed, moved, rows_to_raise

RECORDED: dict[str, Any] = json.loads(FILE.read_text())


def test_no_result_changed() -> None:
    problems = moved(RECORDED, computed())
    rows = ", ".join(sorted(rows_to_raise(problems))) if problems else ""
    lines = "\n".join(f"{name}: {problem}" for name, problem in problems.items())
    assert not problems, (
        f"{lines}\n{len(problems)} of {len(CASES)} cases moved. If this change of results is intended, raise {rows} in "
        "kdmodels/versions.py and record the new figures: python -m tests.kdmodels.golden. Otherwise find the cause. "
        "If only the version of torch or another library changed, record again: that version is part of the keys."
    )


def test_every_row_has_a_case_that_was_recorded_at_its_version() -> None:
    assert {name.partition("/")[0] for name in CASES} == VERSIONS.keys()
    assert RECORDED.keys() == CASES.keys()
    for name, case in CASES.items():
        hint = f"{name}: record it again: python -m tests.kdmodels.golden"
        assert RECORDED[name]["versions"] == {row: VERSIONS[row] for row in case.rows}, hint


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["loss.hint"], {"loss.hint"}),
        (["loss.distance_metric", "loss.distance_metric/cosine"], {"loss.distance_metric"}),
        (["loss.distance_metric/cosine"], {"loss.distance_metric"}),
        (["loss.hint", "loss.review"], {"loss.hint", "loss.review"}),
        ([name for name, case in CASES.items() if "training" in case.rows], {"training"}),
        (["network.name/vgg8"], {"network.name"}),
    ],
)
def test_the_rows_to_raise_are_those_on_which_all_moved_cases_depend(names: list[str], rows: set[str]) -> None:
    figures = {name: dict(kept["figures"]) for name, kept in RECORDED.items()}
    for name in names:
        first = next(key for key, value in figures[name].items() if isinstance(value, float))
        figures[name][first] = figures[name][first] * 1.1 + 0.1
    problems = moved(RECORDED, figures)
    assert list(problems) == [name for name in RECORDED if name in names]
    assert rows_to_raise(problems) == rows


def test_a_run_depends_only_on_what_it_computes() -> None:
    recipe = Recipe.model_validate({"epochs": 1, "optimizer": {"sgd": {"lr": 0.1}}, "schedule": {"cosine": {}}})
    labels = versions(Network(mlp=[4]), recipe=recipe, terms=[Term(loss="hard_labels")])
    assert labels.keys() == {"data", "network.mlp", "training", "optimizer.sgd", "schedule.cosine", "loss.hard_labels"}
    taught = versions(Network(mlp=[4]), recipe=recipe, terms=[Term(loss="hard_labels"), Term(loss="hint")])
    assert taught.keys() - labels.keys() == {"loss.hint", "knowledge"}
    assert versions(Network(mlp=[4]), is_tuned=True).keys() == {"data", "network.mlp", "tuning"}
    assert versions(None, is_teacher=True).keys() == {"data", "knowledge"}


def test_a_run_recorded_with_another_version_is_outdated() -> None:
    now = {f"code.{name}": str(version) for name, version in VERSIONS.items()}
    assert not is_outdated(now | {"torch": "9"}, "code")
    assert not is_outdated({}, "code")
    assert is_outdated(now | {"code.data": "0"}, "code")
    assert is_outdated({"code.loss.gone": "1"}, "code")
    assert is_outdated({"code": "0123456789abcdef"}, "code")
