import asyncio
import errno
import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine, event

from tasks import tracking


def test_a_new_run_is_running_and_has_its_attributes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    parent = tracking.start("digits", "nightly", "comparison")
    run = tracking.get(
        tracking.start(
            "digits", "kd", "student", key="c0ffee", parent=parent, params={"lr": 0.1}, tags={"kd.variant": "kd"}
        )
    )
    assert (run.name, run.experiment, run.kind, run.status) == ("kd", "digits", "student", "RUNNING")
    assert (run.key, run.parent, run.end) == ("c0ffee", parent, None)
    assert run.params == {"lr": "0.1"}
    assert run.tags["kd.variant"] == "kd"
    assert run.tags["mlflow.source.name"] == "kd"
    assert run.tags["mlflow.user"] == "somebody"


def test_long_params_and_tags_are_cut_at_mlflows_lengths(store: Path) -> None:
    params = {f"p{i}": i for i in range(150)} | {"long": "x" * 7000}
    run = tracking.get(tracking.start("digits", "kd", "student", params=params, tags={"long": "y" * 9000}))
    assert len(run.params) == 151
    assert run.params["p149"] == "149"
    assert run.params["long"] == "x" * 5999 + "…"
    assert run.tags["long"] == "y" * 7999 + "…"


def test_a_run_whose_params_are_refused_does_not_stay_running(store: Path) -> None:
    with pytest.raises(MlflowException, match="Invalid"):
        tracking.start("digits", "kd", "student", params={"a name with a ?": 1})
    assert [run.status for run in tracking.runs()] == ["FAILED"]


def test_a_run_without_an_error_is_finished(store: Path) -> None:
    id_ = tracking.start("digits", "kd", "student")
    with tracking.recording(id_):
        assert tracking.get(id_).status == "RUNNING"
    run = tracking.get(id_)
    assert run.status == "FINISHED"
    assert run.end is not None
    assert run.end >= run.start


def test_a_run_that_raises_is_failed_and_records_the_error_in_one_line(store: Path) -> None:
    id_ = tracking.start("digits", "kd", "student")
    with pytest.raises(ValueError, match="loss"), tracking.recording(id_):
        raise ValueError("loss is\n  nan " + "z" * 6000)
    run = tracking.get(id_)
    assert run.status == "FAILED"
    assert run.tags["kd.error"].startswith("ValueError: loss is nan zzz")
    assert len(run.tags["kd.error"]) == 5000


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(0), SystemExit(3), asyncio.CancelledError()])
def test_a_run_that_is_stopped_is_killed(store: Path, stop: BaseException) -> None:
    id_ = tracking.start("digits", "kd", "student")
    with pytest.raises(type(stop)) as caught, tracking.recording(id_):
        raise stop
    assert caught.value is stop
    assert tracking.get(id_).status == "KILLED"


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), (OSError("x"), "FAILED"), (SystemExit(3), "KILLED")])
def test_a_run_in_a_thread_ends_with_the_right_status(store: Path, error: BaseException | None, status: str) -> None:
    id_ = tracking.start("digits", "kd", "student")
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with tracking.recording(id_):
                if error:
                    raise error
        except BaseException as caught:
            raised.append(caught)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised == ([error] if error else [])
    assert tracking.get(id_).status == status


def test_a_run_that_was_ended_meanwhile_keeps_its_status(store: Path) -> None:
    well, badly = (tracking.start("digits", "kd", "student") for _ in range(2))
    with tracking.recording(well):
        tracking.end(well, "KILLED")
    with pytest.raises(OSError, match="late"), tracking.recording(badly):
        end_and_raise(badly)
    assert [tracking.get(id_).status for id_ in (well, badly)] == ["KILLED", "KILLED"]


def end_and_raise(run_id: str) -> None:
    tracking.end(run_id, "KILLED")
    raise OSError("late")


def test_only_running_children_of_the_parent_are_killed(store: Path) -> None:
    parent, other = (tracking.start("digits", name, "comparison") for name in "ab")
    done, running, elsewhere = (tracking.start("digits", "kd", "student", parent=of) for of in (parent, parent, other))
    tracking.end(done, "FINISHED")

    assert tracking.kill_running(parent) == [running]

    assert [tracking.get(id_).status for id_ in (parent, done, running, elsewhere)] == [
        "RUNNING",
        "FINISHED",
        "KILLED",
        "RUNNING",
    ]
    assert tracking.kill_running(parent) == []


def test_1500_metrics_arrive_with_their_steps(store: Path) -> None:
    id_ = tracking.start("digits", "kd", "student")
    tracking.log_metrics(id_, ((f"train/loss{i % 3}", i / 7, i // 3) for i in range(1500)))
    for loss in range(3):
        history = MlflowClient().get_metric_history(id_, f"train/loss{loss}")
        assert {metric.step: metric.value for metric in history} == {step: (3 * step + loss) / 7 for step in range(500)}
    assert tracking.get(id_).metrics["train/loss2"] == 1499 / 7


def test_infinite_values_are_stored_as_mlflow_shows_them(store: Path) -> None:
    id_ = tracking.start("digits", "kd", "student")
    tracking.log_metrics(id_, [("a", math.nan, 0), ("b", math.inf, 0), ("c", -math.inf, 0), ("a", 1.0, 0)])
    assert tracking.get(id_).metrics == {"a": 1.0, "b": 1.7976931348623157e308, "c": -1.7976931348623157e308}
    tracking.log_metrics(id_, [("a", math.nan, 1)])
    assert math.isnan(tracking.get(id_).metrics["a"])


def test_a_metric_has_the_time_of_its_measurement(store: Path) -> None:
    id_, before = tracking.start("digits", "kd", "student"), time.time()
    tracking.log_metrics(id_, [("loss", 2.0, 1, 1_000.5), ("loss", 1.0, 2, 1_001.25), ("accuracy", 0.5, 0)])
    assert [metric.timestamp for metric in MlflowClient().get_metric_history(id_, "loss")] == [1_000_500, 1_001_250]
    (accuracy,) = MlflowClient().get_metric_history(id_, "accuracy")
    assert int(1000 * before) <= accuracy.timestamp <= 1000 * time.time()


def test_the_description_of_a_run_is_replaced(store: Path) -> None:
    run_id = tracking.start("digits", "digits", "comparison")
    tracking.describe(run_id, "first")
    tracking.describe(run_id, "**second**")
    assert tracking.get(run_id).tags["mlflow.note.content"] == "**second**"


def test_the_description_of_an_experiment_is_replaced_unless_somebody_else_wrote_it(store: Path) -> None:
    run_id = tracking.start("digits", "digits", "comparison")

    def described(text: str) -> str:
        tracking.describe_experiment(run_id, text, replaces="Verdict of")
        return str(MlflowClient().get_experiment("1").tags["mlflow.note.content"])

    assert described("good. Verdict of day 1") == "good. Verdict of day 1"
    assert described("better. Verdict of day 2") == "better. Verdict of day 2"
    MlflowClient().set_experiment_tag("1", "mlflow.note.content", "Ann's notes")
    assert described("best. Verdict of day 3") == "Ann's notes"


def test_many_tags_can_be_set_and_replaced(store: Path) -> None:
    id_ = tracking.start("digits", "kd", "student", tags={"a": 1})
    tracking.set_tags(id_, {f"t{i}": i for i in range(120)} | {"a": 2})
    tags = tracking.get(id_).tags
    assert tags["a"] == "2"
    assert tags["t119"] == "119"


def test_a_dataset_is_an_input_of_the_run(store: Path) -> None:
    id_ = tracking.start("digits", "kd", "student")
    digest = "0123456789abcdef" * 4
    tracking.log_dataset(
        id_, name="digits", digest=digest, context="training", source={"digest": digest}, profile={"examples": 1438}
    )
    (given,) = MlflowClient().get_run(id_).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("digits", digest[:36])
    assert json.loads(given.dataset.source) == {"digest": digest}
    assert json.loads(given.dataset.profile) == {"examples": 1438}
    assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "training"}


def test_two_processes_can_record_the_same_dataset_at_once(store: Path) -> None:
    """MLflow looks for a dataset and then adds it. Here the other process adds it in between."""
    ids = [tracking.start("digits", name, "student") for name in ("hard-labels", "kd")]

    def log(run_id: str) -> None:
        tracking.log_dataset(run_id, name="digits", digest="c0ffee", context="training", source={}, profile={})

    def other_first(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT INTO datasets") and others:
            log(others.pop())

    others = ids[1:]
    event.listen(Engine, "before_cursor_execute", other_first)
    try:
        log(ids[0])
    finally:
        event.remove(Engine, "before_cursor_execute", other_first)
    for id_ in ids:
        (given,) = MlflowClient().get_run(id_).inputs.dataset_inputs
        assert (given.dataset.digest, [tag.value for tag in given.tags]) == ("c0ffee", ["training"])


def test_an_error_that_hides_a_stop_counts_as_a_stop(store: Path) -> None:
    """If Prefect is stopped when a task begins, it raises "Task run is not set"."""
    run_id = tracking.start("digits", "kd", "student")

    def stopped() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("Task run is not set")

    with pytest.raises(ValueError, match="not set"), tracking.recording(run_id):
        stopped()
    assert tracking.get(run_id).status == "KILLED"


def test_a_resumed_run_loses_the_error_of_its_interruption(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student", key="c0ffee")
    with pytest.raises(OSError, match="space"), tracking.recording(run_id):
        raise OSError(errno.ENOSPC, "no space left")
    assert "kd.error" in tracking.get(run_id).tags
    tracking.start("digits", "kd", "student", key="c0ffee", continues=run_id)
    assert "kd.error" not in tracking.get(run_id).tags


def test_metrics_of_a_block_are_sent_together(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracking.start("digits", "kd", "student")
    sent: list[int] = []
    log_batch = MlflowClient.log_batch

    def counted(*arguments: Any, **named: Any) -> None:
        sent.append(len(named["metrics"]))
        log_batch(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)

    def block() -> None:
        with tracking.metrics_together(run):
            tracking.log_metrics(run, [("a", 1.0, 0), ("b", 2.0, 0)])
            tracking.log_metrics(run, [("a", 3.0, 1)])
            assert not tracking.get(run).metrics
            raise ValueError("after")

    with tracking.recording(run), pytest.raises(ValueError, match="after"):
        block()
    assert sent == [3]
    assert tracking.get(run).metrics == {"a": 3.0, "b": 2.0}
