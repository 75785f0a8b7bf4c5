from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from kdmodels.errors import UserError
from tasks import tracking
from tasks.tracking import RunFilter, lookup


def ended(name: str, status: str = "FINISHED", **given: str) -> str:
    run = tracking.start(given.pop("experiment", "digits"), name, given.pop("kind", "student"), **given)
    if status != "RUNNING":
        tracking.end(run, status)  # type: ignore[arg-type]
    return run


@pytest.fixture(params=[0, 100], ids=["all runs are read", "one query per key"])
def lookups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MANY_KEYS", request.param)


@pytest.mark.usefixtures("lookups")
def test_only_a_finished_run_of_that_kind_and_key_is_reused(store: Path) -> None:
    for status in ("FAILED", "KILLED", "RUNNING"):
        ended("kd", status, key="k1")
    ended("kd", key="k2")
    ended("teacher", kind="teacher", key="k1")
    assert tracking.finished("student", ["k1"]).get("k1") is None

    ended("kd", key="k1")
    newest = ended("kd", key="k1", experiment="another")
    ended("kd", "FAILED", key="k1")
    found = tracking.finished("student", ["k1"]).get("k1")
    assert found is not None
    assert (found.run_id, found.experiment, found.status) == (newest, "another", "FINISHED")


@pytest.mark.usefixtures("lookups")
def test_a_deleted_run_or_experiment_is_not_reused(store: Path) -> None:
    run = ended("kd", key="k1")
    ended("kd", key="k2", experiment="gone")
    MlflowClient().delete_run(run)
    MlflowClient().delete_experiment(tracking.experiment_id("gone"))
    assert tracking.finished("student", ["k1", "k2"]) == {}


@pytest.mark.usefixtures("lookups")
def test_many_keys_are_looked_up_at_once(store: Path) -> None:
    a, b = ended("a", key="ka"), ended("b", key="kb")
    found = tracking.finished("student", ["ka", "kb", "kc"])
    assert {key: run.run_id for key, run in found.items()} == {"ka": a, "kb": b}
    assert tracking.finished("student", []) == {}


def test_children_are_listed_oldest_first(store: Path) -> None:
    parent, other = ended("p", kind="comparison"), ended("q", kind="comparison")
    first, second = ended("a", parent=parent), ended("b", "FAILED", parent=parent)
    ended("c", parent=other)
    assert [run.run_id for run in tracking.children(parent)] == [first, second]


def test_only_runs_of_kdflow_are_listed_newest_first(store: Path) -> None:
    ids = [ended("t", kind="teacher"), ended("a"), ended("b", experiment="mnist"), ended("c")]
    MlflowClient().create_run(tracking.experiment_id("digits"), run_name="somebody else's")

    assert [run.run_id for run in tracking.runs()] == ids[::-1]
    assert [run.run_id for run in tracking.runs(limit=2)] == ids[:1:-1]
    assert [run.run_id for run in tracking.runs("mnist")] == [ids[2]]
    assert [run.run_id for run in tracking.runs("digits", "student")] == [ids[3], ids[1]]


def test_an_unknown_experiment_or_kind_is_a_clear_error(store: Path) -> None:
    ended("a")
    with pytest.raises(UserError, match=r"experiment 'digit' .*Did you mean 'digits'\?"):
        tracking.runs("digit")
    with pytest.raises(UserError, match=r"kind 'pupil' .*Allowed: comparison, generation, teacher, student"):
        tracking.runs(kind="pupil")


def test_filters_are_combined(store: Path) -> None:
    a, b = ended("a"), ended("b", "FAILED")
    teacher, elsewhere = ended("t", kind="teacher"), ended("c", "FAILED", experiment="mnist")

    def chosen(**conditions: Any) -> list[str]:
        return [run.run_id for run in tracking.select(RunFilter(**conditions), 9)]

    assert chosen() == [elsewhere, teacher, b, a]
    assert chosen(status="FAILED") == [elsewhere, b]
    assert chosen(status="FAILED", experiment="digits", kind="student") == [b]
    assert chosen(since=tracking.get(b).start) == [elsewhere, teacher, b]
    assert chosen(since=tracking.get(elsewhere).start + 1) == []
    for conditions, message in (
        ({"status": "DONE"}, "status 'DONE' does not exist. Allowed: SCHEDULED, RUNNING, "),
        ({"kind": "pupil"}, "kind 'pupil' does not exist. Allowed: comparison, "),
    ):
        with pytest.raises(UserError, match=message):
            chosen(**conditions)


def test_runs_without_a_value_come_last(store: Path) -> None:
    runs = [ended("c", "RUNNING"), ended("a", "RUNNING"), ended("b", "RUNNING"), ended("d", "RUNNING")]
    for run, accuracy, end in zip(runs, (0.5, None, 0.9, None), (3_000, 9_000, 5_000, None), strict=True):
        if accuracy is not None:
            MlflowClient().log_metric(run, "val/accuracy", accuracy)
        if end is not None:
            MlflowClient().set_terminated(run, end_time=tracking.get(run).start + end)

    def names(sort: str, limit: int = 9) -> str:
        return "".join(run.name for run in tracking.select(RunFilter(), limit, sort))

    assert (names("started"), names("name"), names("seconds")) == ("dbac", "abcd", "abcd")
    assert names("accuracy") == "bcda"
    assert (names("seconds", 2), names("accuracy", 1)) == ("ab", "b")
    with pytest.raises(UserError, match="field 'size' does not exist"):
        names("size")


def test_a_run_is_found_by_id_name_or_unique_prefix(store: Path) -> None:
    older, newer = ended("kd"), ended("kd")
    other = ended("it's here")
    assert tracking.find(older).run_id == older
    assert tracking.find("kd").run_id == newer
    unique = next(
        other[:n] for n in range(1, 33) if not older.startswith(other[:n]) and not newer.startswith(other[:n])
    )
    assert tracking.find(unique).run_id == other


def test_a_run_is_found_by_the_name_that_compare_prints(store: Path) -> None:
    in_digits, in_mnist = ended("kd"), ended("kd", experiment="mnist")
    assert tracking.find("digits/kd").run_id == in_digits
    assert tracking.find("mnist/kd").run_id == in_mnist
    with pytest.raises(UserError, match="run 'fashion/kd' is not in the tracking store"):
        tracking.find("fashion/kd")


def test_a_prefix_of_several_ids_lists_them(store: Path) -> None:
    ids = [ended("kd") for _ in range(17)]  # of 17 hexadecimal ids two begin alike
    shared = next(id_[0] for id_ in ids if sum(other[0] == id_[0] for other in ids) > 1)
    with pytest.raises(UserError, match="several ids have this prefix") as caught:
        tracking.find(shared)
    assert all(id_ in str(caught.value) for id_ in ids if id_[0] == shared)


@pytest.mark.parametrize("word", ["", "nothing like it", "it's", "%", "_", "../x", "x' OR '1'='1", 'say "so"', "a\nb"])
def test_an_unknown_run_is_a_clear_error(store: Path, word: str) -> None:
    ended("kd+hint")
    with pytest.raises(UserError, match="is not in the tracking store; `kd list`"):
        tracking.find(word)


def test_the_nearest_name_is_suggested(store: Path) -> None:
    ended("kd+hint")
    with pytest.raises(UserError, match=r"did you mean 'kd\+hint'\?"):
        tracking.find("kd+hnt")


def test_the_error_for_a_deleted_run_says_how_to_restore_it(store: Path) -> None:
    run = ended("kd")
    MlflowClient().delete_run(run)
    with pytest.raises(UserError, match=f"was deleted; restore it with `mlflow runs restore --run-id {run}`"):
        tracking.find(run)


def test_an_unknown_id_is_a_clear_error(store: Path) -> None:
    with pytest.raises(UserError, match=r"^run '0{32}' is not in the tracking store$"):
        tracking.get("0" * 32)
