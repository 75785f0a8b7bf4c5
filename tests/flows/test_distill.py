"""The flow `distill` with real training and a real store: what is trained, what is reused, and how runs end."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from prefect.client.orchestration import get_client
from prefect.exceptions import CancelledRun
from safetensors.torch import load_file, save_file

from flows.distill import Options, Outcome, StudentsFailedError, distill, plan_only
from kdmodels.data import load_dataset
from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment, Network
from kdmodels.networks import sources
from kdmodels.networks.compact import Shape
from kdmodels.report.leaderboard import leaderboard
from tasks import cancellation, tracking
from tasks.cancellation import cancel, running_run_of
from tasks.execution import interruption
from tasks.queries import compare
from tasks.tracking.served import load_model
from tests.conftest import SMALL
from tests.support.receiver import running_receiver

EXPERIMENT = SMALL | {"variants": ["hard-labels", "kd", "hint"]}
Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def run(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Run]:
    """Run the small experiment with changed fields, in one store for the whole module."""

    def run(fresh: bool = False, **changes: Any) -> Outcome:
        return distill(Experiment.model_validate(EXPERIMENT | changes), Options(fresh=fresh))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        yield run


@pytest.fixture(scope="module")
def first(run: Run) -> Outcome:
    return run()


def reused(outcome: Outcome) -> dict[str, bool]:
    return {"teacher": outcome.teacher.reused} | {student.variant: student.reused for student in outcome.students}


def student(outcome: Outcome, variant: str) -> tracking.Run:
    (reference,) = [student for student in outcome.students if student.variant == variant]
    assert reference.run_id is not None
    return tracking.get(reference.run_id)


def test_one_command_leads_from_data_to_a_champion(first: Outcome) -> None:
    assert not any(reused(first).values())
    assert [student.status for student in first.students] == ["FINISHED"] * 3
    assert first.verdict.promoted
    champion = tracking.champion("small-student")
    assert champion is not None
    assert champion.run_id == student(first, first.verdict.winner).run_id
    assert champion.tags["kd.variant"] == first.verdict.winner
    assert list(first.seconds) == ["data", "teacher", "knowledge", "students", "compare", "promote", "report"]


def test_a_run_records_everything_that_determines_its_result(first: Outcome) -> None:
    run = student(first, "kd")
    assert run.params["terms.1.hyperparameters.temperature"] == "4.0"
    assert run.params["network.mlp"] == "[8]"
    assert run.params["seeds"] == "[0, 1]"
    assert run.params["optimizer.adam.lr"] == "0.001"
    assert run.params["teacher"] == tracking.get(first.teacher.run_id).key
    assert run.parent == first.parent_run_id
    assert run.tags["kd.variant"] == "kd"
    assert run.tags["kd.prefect_task_run"]
    assert run.tags["kd.torch"] == torch.__version__.split("+")[0]
    assert run.metrics["size/parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    figures = {"train/loss", "train/soft_targets", "val/hard_labels", "val/accuracy", "val/accuracy/std"}
    assert figures | {"seconds/training", "seconds/model", "memory_mb/training"} <= run.metrics.keys()


def test_every_epoch_is_a_step(first: Outcome) -> None:
    from mlflow import MlflowClient

    history = MlflowClient().get_metric_history(student(first, "kd").run_id, "val/accuracy")
    assert [metric.step for metric in history] == [1, 2, 3]
    table = tracking.read_json(student(first, "kd").run_id, "replicas/replicas.json")
    means = [np.mean([replica["history"][epoch]["val/accuracy"] for replica in table]) for epoch in range(3)]
    assert [metric.value for metric in history] == pytest.approx(means)


def test_the_dataset_is_an_input_with_its_digest(first: Outcome) -> None:
    from mlflow import MlflowClient

    (entry,) = MlflowClient().get_run(student(first, "kd").run_id).inputs.dataset_inputs
    digest = load_dataset(Data(source="digits", validation=0.2)).digest
    assert (entry.dataset.name, entry.dataset.digest) == ("digits", digest[:36])


def test_the_exported_model_is_the_stored_replica(first: Outcome) -> None:
    predict = load_model(tracking.find_model("small-student").uri)
    validation = load_dataset(Data(source="digits", validation=0.2)).validation
    logits = predict(validation.images.numpy())
    accuracy = float((logits.argmax(1) == validation.labels.numpy()).mean())
    run = student(first, first.verdict.winner)
    assert f'"val/accuracy": {accuracy:.6}'[:22] in run.tags["replica"]


def test_costs_are_measured_once_after_training_for_students_and_teacher(run: Run, first: Outcome) -> None:
    costs = {"cost/flops", "cost/memory_mb", "latency/p50_ms", "latency/p95_ms_batch64"}
    assert costs <= first.teacher.metrics.keys()
    assert first.teacher.metrics["cost/flops"] == 2 * (64 * 32 + 32 * 10)
    for student in first.students:
        assert costs <= student.metrics.keys()
        assert student.metrics["cost/flops"] == 2 * (64 * 8 + 8 * 10)
    rows = tracking.read_json(first.parent_run_id, "leaderboard.json")
    assert [row["metrics"]["cost/flops"] for row in rows] == [1184.0] * 3
    again = run()
    for before, after in zip(first.students, again.students, strict=True):
        assert after.metrics["latency/p50_ms"] == before.metrics["latency/p50_ms"]


def test_a_second_run_trains_nothing_and_makes_no_second_version(run: Run, first: Outcome) -> None:
    again = run()
    assert all(reused(again).values())
    assert again.verdict.already_champion
    assert not again.verdict.promoted
    assert len(tracking.versions("small-student")) == 1
    assert [s.run_id for s in again.students] == [s.run_id for s in first.students]


def test_prefect_says_in_one_line_that_nothing_has_changed(run: Run, first: Outcome) -> None:
    outcome = run()
    flow_run = tracking.get(outcome.parent_run_id).tags["kd.prefect_flow_run"]
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(flow_run)).state
    assert state is not None
    expected = f"nothing has changed: all 4 earlier runs are reused; {outcome.verdict.reason}"
    assert (state.name, state.message) == ("Completed", expected)


def test_a_changed_temperature_trains_only_that_student(run: Run, first: Outcome) -> None:
    variants = ["hard-labels", {"name": "kd", "terms": [{"hard_labels": 1}, {"soft_targets": {"weight": "auto", "temperature": 2}}]}, "hint"]  # fmt: skip # noqa: E501
    experiment = Experiment.model_validate(EXPERIMENT | {"variants": variants})
    steps = {step.name: step for step in plan_only(experiment).students}
    assert {name: step.action for name, step in steps.items()} == {
        "hard-labels": "reuse",
        "kd": "train",
        "hint": "reuse",
    }
    assert steps["kd"].reason == "terms.1.hyperparameters.temperature: 4.0 -> 2.0"
    assert reused(run(variants=variants)) == {"teacher": True, "hard-labels": True, "kd": False, "hint": True}


def test_a_changed_teacher_trains_every_student_that_depends_on_it(run: Run, first: Outcome) -> None:
    teacher = EXPERIMENT["teacher"] | {"epochs": 5}
    plan = plan_only(Experiment.model_validate(EXPERIMENT | {"teacher": teacher}))
    assert plan.teacher.reason == "epochs: 4 -> 5"
    assert {step.name: step.reason for step in plan.students if step.action == "train"} == {
        "kd": "its teacher changed",
        "hint": "its teacher changed",
    }
    assert reused(run(teacher=teacher)) == {"teacher": False, "hard-labels": True, "kd": False, "hint": False}


def test_more_seeds_train_only_the_missing_seeds(run: Run, first: Outcome) -> None:
    more = run(student=EXPERIMENT["student"] | {"seeds": 3}, variants=["hard-labels", "kd"])
    before, after = (
        tracking.read_json(student(outcome, "kd").run_id, "replicas/replicas.json") for outcome in (first, more)
    )
    assert [replica["seed"] for replica in after] == [0, 1, 2]
    assert after[:2] == before
    accuracies = [replica["figures"]["val/accuracy"] for replica in after]
    assert student(more, "kd").metrics["val/accuracy"] == pytest.approx(np.mean(accuracies))
    fewer = plan_only(Experiment.model_validate(EXPERIMENT | {"student": EXPERIMENT["student"] | {"seeds": 1}}))
    assert {step.action for step in fewer.students} == {"extend"}
    assert reused(run(student=EXPERIMENT["student"] | {"seeds": 1}, variants=["hard-labels"]))["hard-labels"]


def test_a_changed_student_is_compared_with_its_own_control(run: Run, first: Outcome) -> None:
    wide = {"name": "wide", "terms": "kd", "student": {"network": {"mlp": [24]}, "epochs": 4}}
    outcome = run(variants=["kd", wide])
    rows = {student.variant: student for student in outcome.students}
    assert list(rows) == ["hard-labels", "kd", "hard-labels-of-wide", "wide"]
    assert [row.control for row in rows.values()] == ["hard-labels"] * 2 + ["hard-labels-of-wide"] * 2
    assert [row.reused for row in rows.values()] == [True, True, False, False]
    assert rows["wide"].parameters == rows["hard-labels-of-wide"].parameters == 64 * 24 + 24 + 24 * 10 + 10
    assert student(outcome, "wide").metrics["epoch"] == 4
    table = leaderboard(*compare([outcome.parent_run_id]))
    differences = {row.student.variant: row.evidence.control_difference for row in table}
    assert differences["wide"] == pytest.approx(
        rows["wide"].metrics["val/accuracy"] - rows["hard-labels-of-wide"].metrics["val/accuracy"]
    )
    assert differences["kd"] == pytest.approx(
        rows["kd"].metrics["val/accuracy"] - rows["hard-labels"].metrics["val/accuracy"]
    )
    assert outcome.verdict.evidence["control"]["name"] == rows[outcome.verdict.winner].control


def test_a_reused_run_has_the_name_of_this_experiment(run: Run, first: Outcome) -> None:
    outcome = run(variants=[{"name": "taught", "terms": "kd"}])
    assert [(row.variant, row.reused) for row in outcome.students] == [("hard-labels", True), ("taught", True)]


def test_fresh_trains_again_with_the_same_result(run: Run, first: Outcome) -> None:
    fresh = run(fresh=True, variants=["hard-labels"])
    assert not any(reused(fresh).values())
    assert student(fresh, "hard-labels").run_id != student(first, "hard-labels").run_id
    for name in ("train/loss", "val/loss", "val/accuracy"):
        assert student(fresh, "hard-labels").metrics[name] == student(first, "hard-labels").metrics[name]


def test_replicas_that_end_early_keep_their_last_figures_in_the_means(run: Run) -> None:
    from mlflow import MlflowClient

    recipe = {"epochs": 40, "optimizer": {"adam": {"lr": 0.03}}, "select": "best-validation", "patience": 2}
    for seeds in (2, 4):  # the second run keeps the replicas of the first
        outcome = run(name="early", student=EXPERIMENT["student"] | recipe | {"seeds": seeds}, variants=["hard-labels"])
        run_id = student(outcome, "hard-labels").run_id
        table = tracking.read_json(run_id, "replicas/replicas.json")
        histories = [[figures["val/accuracy"] for figures in replica["history"]] for replica in table]
        last = max(map(len, histories))
        assert min(map(len, histories)) < last < 40
        expected = [np.mean([history[: epoch + 1][-1] for history in histories]) for epoch in range(last)]
        expected.append(np.mean([replica["figures"]["val/accuracy"] for replica in table]))
        logged = MlflowClient().get_metric_history(run_id, "val/accuracy")
        assert [metric.step for metric in logged] == list(range(1, last + 2))
        assert [metric.value for metric in logged] == pytest.approx(expected)


def test_a_teachers_labels_are_smoothed(run: Run, first: Outcome) -> None:
    outcome = run(name="smooth", teacher=EXPERIMENT["teacher"] | {"label_smoothing": 0.3}, variants=["hard-labels"])
    metrics = tracking.get(outcome.teacher.run_id).metrics
    assert "train/label_smoothing" in metrics
    assert tracking.get(outcome.teacher.run_id).params["label_smoothing"] == "0.3"
    assert metrics["train/loss"] > tracking.get(first.teacher.run_id).metrics["train/loss"] + 0.2


BROKEN = {"name": "broken", "terms": [{"hard_labels": 3e38}]}


def test_a_failed_student_does_not_affect_the_others(run: Run, first: Outcome) -> None:
    variants = ["hard-labels", BROKEN, {"name": "after", "terms": [{"label_smoothing": {"epsilon": 0.2}}]}]
    message = r"broken: .*diverged.*seed 1 in epoch 1, hard_labels first; seed 2 in epoch 1, hard_labels first"
    with pytest.raises(StudentsFailedError, match=message) as failure:
        run(variants=variants, runner={"workers": 1}, seed=1)
    outcome = failure.value.outcome
    assert [student.status for student in outcome.students] == ["FINISHED", "FAILED", "FINISHED"]
    assert tracking.get(outcome.parent_run_id).status == "FAILED"
    assert tracking.has_artifact(outcome.parent_run_id, "leaderboard.csv")


def test_no_finished_student_is_an_error_and_no_empty_leaderboard(run: Run) -> None:
    diverging = EXPERIMENT["student"] | {"optimizer": {"sgd": {"lr": 1e38}}}
    with pytest.raises(UserError, match=r"no student finished: hard-labels: .*seed 0 in epoch \d"):
        run(student=diverging, variants=["hard-labels"])
    (latest,) = tracking.runs(kind="comparison", limit=1)
    assert latest.status == "FAILED"
    assert [child.status for child in tracking.children(latest.run_id)] == ["FAILED"]


@pytest.mark.fault
def test_processes_and_threads_give_the_same_result_if_a_student_fails(run: Run, first: Outcome) -> None:
    with pytest.raises(StudentsFailedError, match=r"^broken: .*diverged") as failure:
        run(fresh=True, variants=[BROKEN, *EXPERIMENT["variants"]], runner={"kind": "process", "workers": 2})
    other = failure.value.outcome
    for variant in ("hard-labels", "kd", "hint"):
        assert student(other, variant).metrics["val/loss"] == student(first, variant).metrics["val/loss"]


def test_a_teacher_from_a_checkpoint_or_the_registry_equals_the_trained_teacher(run: Run, first: Outcome) -> None:
    tracking.register("small-teacher", first.teacher.run_id, tags={}, description="")
    tracking.set_champion(tracking.find_model("small-teacher/1"))
    from_registry = run(teacher={"registry": "small-teacher"}, variants=["hard-labels", "kd"])
    weights = tracking.artifact(first.teacher.run_id, "network/network.safetensors")
    checkpoint = {"checkpoint": str(weights), "network": {"mlp": [32]}}
    from_checkpoint = run(teacher=checkpoint, variants=["hard-labels", "kd"])
    for outcome in (from_registry, from_checkpoint):
        assert reused(outcome) == {"teacher": False, "hard-labels": True, "kd": False}
        assert outcome.teacher.metrics["val/accuracy"] == pytest.approx(first.teacher.metrics["val/accuracy"])
        assert student(outcome, "kd").metrics["val/loss"] == student(first, "kd").metrics["val/loss"]
    assert reused(run(teacher=checkpoint, variants=["hard-labels", "kd"]))["kd"]


def test_a_teacher_whose_outputs_are_not_finite_is_an_error_before_students_are_trained(
    run: Run, first: Outcome, tmp_path: Path
) -> None:
    weights = load_file(tracking.artifact(first.teacher.run_id, "network/network.safetensors"))
    save_file(weights | {"head.bias": torch.full((10,), torch.nan)}, tmp_path / "broken.safetensors")
    teacher = {"checkpoint": str(tmp_path / "broken.safetensors"), "network": {"mlp": [32]}}
    with pytest.raises(UserError, match=r"^teacher: the outputs logits of 288 of 288 images are NaN or infinite"):
        run(name="broken-teacher", teacher=teacher)
    runs = [run for run in tracking.runs(limit=1_000) if run.experiment == "broken-teacher"]
    assert {run.kind for run in runs} == {"comparison", "teacher"}


def test_a_teacher_at_chance_and_few_validation_examples_are_noted(run: Run, first: Outcome) -> None:
    assert [note.partition(":")[0] for note in first.notes] == ["288 validation examples are few"]
    assert first.teacher.warnings == []
    idle = EXPERIMENT["teacher"] | {"epochs": 1, "optimizer": {"adam": {"lr": 1e-9}}}
    for reused in (False, True):
        outcome = run(name="idle-teacher", teacher=idle)
        assert outcome.teacher.reused is reused
        (warning,) = outcome.teacher.warnings
        assert warning.startswith("teacher: its validation accuracy is not significantly better than chance (")
        assert warning in outcome.notes
    assert tracking.get(outcome.teacher.run_id).tags["kd.warning"] == warning
    assert warning in tracking.get(outcome.parent_run_id).tags["kd.note"]


@pytest.mark.parametrize("at", ["block9", {"student": "block9", "teacher": "block1"}])
def test_a_missing_place_is_reported_before_training(run: Run, at: object) -> None:
    variants = [{"name": "lost", "terms": ["hard_labels", {"hint": {"weight": 1, "at": at}}]}]
    with pytest.raises(UserError, match=r"variant lost: .*at: unknown module 'block9'"):
        run(name="nowhere", variants=variants)
    assert not [run for run in tracking.runs() if run.experiment == "nowhere"]


def test_a_missing_checkpoint_is_reported_before_training(run: Run, tmp_path: Path) -> None:
    before = len(tracking.runs(limit=1_000))
    with pytest.raises(UserError, match=r"teacher\.checkpoint: .*missing\.pt: .*missing\.pt do(es)? not exist"):
        run(teacher={"checkpoint": str(tmp_path / "missing.pt"), "network": {"mlp": [32]}})
    assert len(tracking.runs(limit=1_000)) == before


def test_only_the_promotion_step_reads_the_test_split(first: Outcome) -> None:
    read = {student.variant for student in first.students if student.run_id and "test/accuracy" in tracking.get(student.run_id).metrics}  # fmt: skip # noqa: E501
    assert read == {first.verdict.winner, "hard-labels"}
    assert set(first.verdict.test_accuracy) == read
    winner = student(first, first.verdict.winner).metrics
    assert winner["test/accuracy"] == first.verdict.test_accuracy[first.verdict.winner]
    assert 0 < winner["test/macro_f1"] < 1
    assert 0 < winner["test/macro_accuracy"] < 1


@pytest.mark.fault  # takes long
def test_a_teacher_of_the_users_code_and_a_student_within_a_budget(run: Run) -> None:
    changes: dict[str, Any] = {
        "teacher": {"network": "tests.support.networks:Attention", "epochs": 2},
        "student": {
            "network": {"compact": {"block": "ghost", "budget": 2_000}},
            "epochs": 5,
            "seeds": 1,
            "optimizer": {"adam": {"lr": 0.01}},
        },
        "variants": ["hard-labels", "kd"],
        "promote": {"model": "compact-student", "require": {"parameters": "<= 2000"}},
    }
    outcome = run(**changes)
    assert [one.status for one in outcome.students] == ["FINISHED"] * 2
    trained, taught = student(outcome, "kd"), tracking.get(outcome.teacher.run_id)
    code = sources(Network.model_validate(changes["teacher"]["network"]))
    assert {name: taught.params[f"source.{name}"] for name in code} == code
    width, depth = (int(trained.params[f"network.compact.{name}"]) for name in ("width", "depth"))
    assert trained.metrics["size/parameters"] == Shape("ghost", width, depth, (1, 8, 8), 10).parameters() <= 2_000
    predict = load_model(tracking.find_model("compact-student").uri)
    assert predict(np.zeros((3, 1, 8, 8), np.float32)).shape == (3, 10)
    assert all(reused(run(**changes)).values())


def test_a_stop_before_a_flow_ends_that_flow_and_no_later_flow(run: Run) -> None:
    """If Python had dropped the KeyboardInterrupt of Ctrl-C, the flow used to forget the stop."""
    interruption.stop()
    with pytest.raises(KeyboardInterrupt):
        run(name="stopped")
    assert tracking.is_new("stopped")
    assert [student.status for student in run(name="stopped", variants=["hard-labels"]).students] == ["FINISHED"]


def test_a_cancelled_flow_is_cancelled_in_prefect_and_continues_later(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "POLL_SECONDS", 0.2)

    def cancel_in_training() -> None:
        while not [each for each in tracking.running("cancelled") if each.metrics.get("epoch", 0) >= 5]:
            time.sleep(0.1)
        cancel(running_run_of("cancelled"))

    canceller = threading.Thread(target=cancel_in_training)
    canceller.start()
    long = SMALL["student"] | {"epochs": 100_000}
    with pytest.raises(CancelledRun, match=r"^cancelled by \S+ on \S+ at \S+$"):
        run(name="cancelled", student=long, variants=["hard-labels"])
    canceller.join()
    statuses = {each.name: each.status for each in tracking.runs("cancelled") if each.kind != "teacher"}
    assert statuses == {"cancelled": "KILLED", "hard-labels": "KILLED"}
    comparison = tracking.find("cancelled")
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(comparison.tags["kd.prefect_flow_run"])).state
    assert state is not None
    assert (state.name, state.type.value) == ("Cancelled", "CANCELLED")
    assert (state.message or "").startswith("cancelled by ")
    experiment = Experiment.model_validate(EXPERIMENT | {"name": "cancelled", "student": long})
    assert [step.action for step in plan_only(experiment).students] == ["resume", "train", "train"]


def test_messages_report_the_end_and_the_failure_of_a_flow(run: Run) -> None:
    with running_receiver() as receiver:
        settings = {"on": ["promoted", "failed"], "webhook": f"{receiver.address}/topsecret"}
        outcome = run(name="reporting", notify=settings)
        run(name="reporting", notify=settings)  # the winner is already the champion
        with pytest.raises(UserError):
            run(name="reporting", notify=settings, data={"source": "./missing"})
        broken = {"name": "broken", "terms": [{"hard_labels": 3e38}]}
        with pytest.raises(StudentsFailedError):
            run(name="reporting", notify=settings | {"on": ["failed"]}, variants=["hard-labels", broken])
    assert receiver.paths == ["/topsecret"] * 3
    promoted, failed, partly = receiver.documents
    assert [each["event"] for each in receiver.documents] == ["promoted", "failed", "failed"]
    assert (promoted["run_id"], promoted["verdict"]) == (outcome.parent_run_id, outcome.verdict.reason)
    assert promoted["leaderboard"].startswith("1  ")
    assert (failed["run_id"], failed["leaderboard"]) == (None, "")
    assert "./missing" in failed["verdict"]
    assert "Failed: broken: diverged" in partly["verdict"]
    comparison = tracking.get(outcome.parent_run_id)
    recorded = tracking.read_json(outcome.parent_run_id, "experiment.json")
    with get_client(sync_client=True) as client:
        parameters = client.read_flow_run(UUID(comparison.tags["kd.prefect_flow_run"])).parameters
    assert "topsecret" not in f"{comparison}{recorded}{parameters}"
    assert not [name for name in comparison.params if name.startswith("notify")]
