"""The queries of `kd list`, `kd show` and `kd compare` in a ledger with real runs."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from flows.experiments import shipped
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.experiment.file import read_experiment
from kdmodels.report.leaderboard import leaderboard
from kdmodels.report.tables import to_frame
from tasks import tracking
from tasks.listings import ExperimentLine
from tasks.queries import compare, find_run, list_experiments, list_runs, show, spec
from tasks.tracking.served import load_model
from tasks.tracking.tags import Tag


def child(parent: str, variant: str) -> tracking.Run:
    return next(run for run in tracking.children(parent) if run.name == variant)


def test_runs_are_listed_newest_first(recorded) -> None:
    rows = list_runs()
    assert [row.kind for row in rows].count("comparison") == 4
    assert rows[0].run_id == recorded.unfinished
    assert (rows[0].status, rows[0].seconds, rows[0].accuracy) == ("RUNNING", None, None)
    started = [datetime.fromisoformat(row.started) for row in rows]
    assert started == sorted(started, reverse=True)
    assert started[0].tzinfo == UTC
    teacher = next(row for row in rows if row.kind == "teacher" and row.experiment == "other")
    assert (teacher.parent, teacher.status) == (recorded.other, "FINISHED")
    assert 0.5 < teacher.accuracy <= 1
    assert teacher.seconds > 0
    assert list_runs(limit=2) == rows[:2]


def test_shipped_experiments_and_those_that_ran_are_listed(recorded) -> None:
    rows = {row.name: row for row in list_experiments(shipped())}
    assert list(rows) == sorted([*shipped(), "other", "small"])
    assert rows["digits"] == ExperimentLine(
        name="digits", shipped=True, comparisons=0, last_started=None, champion=None
    )
    assert (rows["small"].shipped, rows["small"].comparisons) == (False, 3)
    champion = tracking.champion("small-student")
    assert champion is not None
    assert rows["small"].champion == f"small-student/{champion.version}"
    assert rows["small"].last_started == show(recorded.unfinished).started


def test_the_default_is_the_last_comparison_with_a_leaderboard_even_if_it_failed(recorded) -> None:
    rows, _ = compare([])
    assert tracking.get(recorded.other).status == "FAILED"
    assert {row.variant: row.status for row in rows} == {"hard-labels": "FINISHED", "broken": "FAILED"}
    assert "diverged" in next(row.error for row in rows if row.variant == "broken")
    table = to_frame(leaderboard(rows))
    assert list(table["variant"]) == ["hard-labels", "broken"]
    assert math.isclose(
        table["val/accuracy"][0], child(recorded.other, "hard-labels").metrics["val/accuracy"], abs_tol=1e-12
    )


def test_combined_comparisons_share_runs_and_have_unique_names(recorded) -> None:
    rows, right = compare([recorded.first, recorded.again])
    first, again = child(recorded.first, "kd").run_id, child(recorded.again, "kd").run_id
    assert [row.variant for row in rows] == ["hard-labels", f"small/kd/{first[:8]}", f"small/kd/{again[:8]}"]
    table = to_frame(leaderboard(rows, right))
    assert table["vs control"].notna().sum() == 2  # the control is one run, and still the control
    assert table["wins"].sum() == pytest.approx(1)  # all three are of the same examples


def test_equal_names_are_extended_by_the_experiment(recorded) -> None:
    rows, _ = compare([recorded.first, recorded.other])
    assert [row.variant for row in rows] == ["small/hard-labels", "kd", "other/hard-labels", "broken"]
    assert len(leaderboard(rows)) == 4


def test_students_and_teachers_can_be_compared(recorded) -> None:
    student, teacher = child(recorded.first, "kd"), child(recorded.first, "teacher")
    rows, right = compare([teacher.run_id, student.run_id, student.run_id])
    assert [row.variant for row in rows] == ["teacher", "kd"]
    stored = tracking.read_json(recorded.first, "leaderboard.json")
    same = next(row for row in stored if row["variant"] == "kd")
    for field in ("seeds", "per_seed", "parameters", "run_id", "status"):
        assert getattr(rows[1], field) == same[field]
    table = to_frame(leaderboard(rows)).set_index("variant")
    assert table.loc["teacher", "parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    assert table.loc["teacher", "val/accuracy"] == teacher.metrics["val/accuracy"]
    assert list(right) == [student.run_id]
    assert right[student.run_id].outcomes.mean(axis=1).tolist() == rows[1].per_seed["val/accuracy"]


def test_a_name_means_the_latest_run_of_that_name(recorded) -> None:
    assert compare(["other"])[0] == compare([recorded.other])[0]
    assert show("broken").run_id == child(recorded.other, "broken").run_id


@pytest.mark.parametrize("form", ["{0}", "{0}@champion", "{0}/{1}", "models:/{0}/{1}"])
def test_a_model_means_the_run_of_its_version(recorded, form: str) -> None:
    champion = tracking.champion("small-student")
    assert champion is not None
    word = form.format("small-student", champion.version)
    shown = show(word)
    assert shown.run_id == champion.run_id
    (line,) = shown.versions
    assert (line.version, line.aliases, line.run_id) == (champion.version, ["champion"], champion.run_id)
    assert (line.made_by, line.comparison, line.note) == (show(champion.run_id).name, recorded.first, None)
    assert line.test_accuracy == champion.tags[Tag.TEST_ACCURACY]
    assert show(champion.run_id).versions == []
    assert spec(word) == spec(champion.run_id)


def test_a_spec_has_relative_paths_below_the_current_folder(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_id = tracking.start("mine", "mine", "comparison")
    shape = {"network": {"mlp": [8]}, "epochs": 1}
    raw = {
        "name": "mine",
        "data": {"source": str(tmp_path / "photos" / "all")},
        "teacher": {"network": {"mlp": [8]}, "checkpoint": "/elsewhere/teacher.pt"},
        "student": shape,
        "variants": ["hard-labels"],
    }
    tracking.log_json(run_id, "experiment.json", Experiment.model_validate(raw).model_dump(mode="json"))
    document = yaml.safe_load(spec(run_id))
    assert document["data"]["source"] == "./photos/all"
    assert document["teacher"]["checkpoint"] == "/elsewhere/teacher.pt"
    assert str(tmp_path) not in spec(run_id)


def test_students_on_different_data_are_not_compared(store: Path) -> None:
    def student(name: str, digest: str, validation: float) -> str:
        params = {"data.digest": digest, "data.validation": validation}
        tags = {Tag.VARIANT: name, Tag.SEEDS: "[0]"}
        return tracking.start("mixed", name, "student", params=params, tags=tags)

    runs = [student("kd", "a", 0.2), student("hint", "a", 0.2), student("pkt", "b", 0.2), student("nst", "a", 0.3)]
    assert [row.variant for row in compare(runs[:2])[0]] == ["kd", "hint"]
    with pytest.raises(UserError, match=r"different images, .*: kd, hint \| pkt\. Allowed: students on the same data"):
        compare(runs[:3])
    with pytest.raises(UserError, match=r": kd \| nst\. Allowed"):
        compare([runs[0], runs[3]])


def test_a_model_without_a_champion_means_the_run_of_its_newest_version(store: Path) -> None:
    runs = [tracking.start("digits", name, "teacher") for name in ("old", "new")]
    client = MlflowClient()
    client.create_registered_model("proposed")
    for run_id in runs:
        client.create_model_version("proposed", f"runs:/{run_id}/model", run_id=run_id)
    shown = show("proposed")
    assert shown.run_id == runs[1]
    assert [(line.version, line.aliases) for line in shown.versions] == [(2, []), (1, [])]
    with pytest.raises(UserError, match="has no alias 'champion'"):
        find_run("proposed")


def test_an_unknown_word_is_neither_a_run_nor_a_model(recorded) -> None:
    with pytest.raises(UserError) as error:
        show("smal")
    assert str(error.value) == (
        "run 'smal' is not in the tracking store; did you mean 'small'? "
        "model 'smal' is not in the registry. Allowed: other-student, small-student"
    )
    with pytest.raises(UserError, match="model 'small-student' has no alias 'best'; it has: champion"):
        show("small-student@best")
    with pytest.raises(UserError, match=r"model 'small-student' has no version 99; it has: 1"):
        show("small-student/99")


def test_a_run_that_cannot_be_compared_is_a_clear_error(recorded) -> None:
    with pytest.raises(UserError, match=r"run small \(RUNNING\) has no leaderboard"):
        compare([recorded.unfinished])
    with pytest.raises(UserError, match=r"run 'smal' is not in the tracking store; did you mean 'small'\?"):
        compare(["smal"])
    foreign = MlflowClient().create_run(tracking.experiment_id("other"), run_name="by-hand").info.run_id
    with pytest.raises(UserError, match=f"run by-hand \\({foreign}\\) was not made by kdflow"):
        compare([foreign])
    assert show(foreign).kind is None


def test_an_empty_store_says_how_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(UserError, match="nothing has been compared yet; begin with: kd run digits"):
        compare([])
    assert list_runs() == []
    assert [row.comparisons for row in list_experiments(shipped())] == [0] * len(shipped())


def test_a_student_is_shown_with_every_seed(recorded) -> None:
    shown = show(child(recorded.first, "kd").run_id)
    assert [seed["seed"] for seed in shown.seeds] == [0, 1]
    accuracies = [seed["val/accuracy"] for seed in shown.seeds]
    assert sum(accuracies) / 2 == pytest.approx(shown.metrics["val/accuracy"])
    assert shown.replica["val/accuracy"] == max(accuracies)
    assert shown.params["terms.1.hyperparameters.temperature"] == "4.0"
    assert shown.tags["kd.variant"] == "kd"
    assert all(tag.startswith("kd.") for tag in shown.tags)
    assert shown.artifacts == ["classes.csv", "figures", "network", "replicas"]
    assert load_model(shown.model)  # its URI is one that loads
    assert (shown.error, shown.parent) == (None, recorded.first)


@pytest.mark.parametrize("name", ["kd", "teacher"])
def test_the_least_accurate_class_is_shown_first(recorded, name: str) -> None:
    run = child(recorded.first, name)
    classes = show(run.run_id).classes
    assert sorted(row.name for row in classes) == [str(digit) for digit in range(10)]
    accuracies = [row.accuracy for row in classes]
    assert accuracies == sorted(accuracies)
    assert run.metrics["val/macro_accuracy"] == pytest.approx(sum(accuracies) / 10)
    assert run.metrics["val/macro_f1"] == pytest.approx(sum(row.f1 for row in classes) / 10)
    # All examples together: the stored network's accuracy, which is not the mean over seeds.
    right = sum(row.accuracy * row.examples for row in classes) / sum(row.examples for row in classes)
    stored = json.loads(run.tags["replica"])["val/accuracy"] if name == "kd" else run.metrics["val/accuracy"]
    assert right == pytest.approx(stored)


def test_a_figure_that_is_not_a_number_is_none_and_a_class_may_be_called_nan(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    tracking.configure()
    run_id = tracking.start("odd", "odd", "student", tags={"kd.variant": "odd"})
    table = "class,examples,accuracy,precision,f1\n007,3,1.0,0.5,0.6\nnan,2,0.0,,0.0\nnone,0,,,\ntoo,0,,,\n"
    tracking.log_text(run_id, "classes.csv", table)
    assert show(run_id).model_dump(by_alias=True)["classes"] == [
        {"class": "nan", "examples": 2, "accuracy": 0.0, "precision": None, "f1": 0.0},
        {"class": "007", "examples": 3, "accuracy": 1.0, "precision": 0.5, "f1": 0.6},
        {"class": "none", "examples": 0, "accuracy": None, "precision": None, "f1": None},
        {"class": "too", "examples": 0, "accuracy": None, "precision": None, "f1": None},
    ]


def test_a_failed_student_is_shown_with_its_error_and_seeds(recorded) -> None:
    shown = show("broken")
    assert shown.status == "FAILED"
    assert "diverged, the loss is not finite" in shown.error
    assert (shown.model, shown.replica) == (None, None)
    assert [seed["seed"] for seed in shown.seeds] == [5, 6]
    assert shown.classes == []


def test_a_comparison_is_shown_with_its_children_and_verdict(recorded) -> None:
    shown = show(recorded.first)
    assert {row.name for row in shown.children} == {"teacher", "hard-labels", "kd"}
    assert all(row.parent == recorded.first for row in shown.children)
    assert (shown.verdict["promoted"], shown.verdict["model"]) == (True, "small-student")
    assert {"experiment.json", "leaderboard.csv", "plan.json", "verdict.json"} <= set(shown.artifacts)
    assert json.loads(json.dumps(shown.verdict)) == shown.verdict
    unfinished = show(recorded.unfinished)
    assert (unfinished.children, unfinished.verdict, unfinished.artifacts) == ([], None, [])


def test_queries_import_neither_torch_nor_prefect(recorded) -> None:
    code = "import sys; from tasks import queries; queries.show('small'); queries.compare([]); "
    code += "print([name for name in ('torch', 'prefect') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_file_of_a_run_reproduces_it(recorded, tmp_path: Path) -> None:
    from flows.distill import plan_only

    kd = child(recorded.again, "kd")
    for word, variants in ((recorded.first, ["hard-labels", "kd"]), (kd.run_id, ["hard-labels", "kd"])):
        file = tmp_path / "again.yaml"
        file.write_text(spec(word))
        plan = plan_only(read_experiment(file))
        assert [step.action for step in plan.steps] == ["reuse"] * 3
        assert [step.name for step in plan.students] == variants
    assert plan.students[1].source == kd.run_id
    file.write_text(spec(child(recorded.first, "hard-labels").run_id))
    assert [step.name for step in plan_only(read_experiment(file)).students] == ["hard-labels"]
    with pytest.raises(UserError, match="run small belongs to no comparison, so no experiment file made it"):
        spec(recorded.unfinished)
