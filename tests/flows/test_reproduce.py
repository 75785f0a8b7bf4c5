"""`kd reproduce` through its flow: seeds, reuse, results in the store and in a folder, and no promotion."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.experiments import load_paper_experiment
from flows.reproduce import ReproduceOptions, reproduce
from kdmodels import papers
from kdmodels.data import load_dataset
from kdmodels.errors import UsageError, UserError
from kdmodels.evaluation.predictions import served_logits
from kdmodels.papers.claims import Agreement, ReproductionResult
from kdmodels.papers.soft_feature_combined import EXPERIMENTS
from tasks import tracking
from tasks.promotion_candidates import find_candidate
from tasks.reproductions import RESULT, latest_results
from tasks.served_models import run_model
from tasks.tracking.tags import Tag

NAME = "soft-feature-combined"


@pytest.fixture(scope="module", autouse=True)
def store(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[None]:
    """Provide an empty store, and leave MNIST out of the reproduction, because MNIST may not be on this machine."""
    whole = papers.REPRODUCTIONS[NAME]
    digits = tuple(part for part in whole.experiments if part.file == EXPERIMENTS["digits"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        patch.setitem(papers.REPRODUCTIONS, NAME, replace(whole, experiments=digits))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def result(folder: Path) -> ReproductionResult:
    return reproduce(NAME, ReproduceOptions(seeds=2, quick=True, output=str(folder)))


def test_each_claim_of_a_finished_experiment_has_a_value_for_each_seed(result: ReproductionResult) -> None:
    assert (result.seeds, result.planned_seeds, result.quick) == (2, 2, True)
    counts = {outcome.claim.name.partition(":")[0]: len(outcome.values) for outcome in result.outcomes}
    assert counts == {"MNIST": 0, "digits": 2}
    missing = {outcome.agreement for outcome in result.outcomes if not outcome.values}
    assert missing == {Agreement.NOT_RUN}
    (table,) = result.tables
    assert len(table.rows) == 12
    assert all(len(values) == 2 for values in table.rows.values())


def test_a_difference_is_that_of_the_accuracies_in_the_table(result: ReproductionResult) -> None:
    rows = result.tables[0].rows
    (gain,) = [outcome for outcome in result.outcomes if outcome.claim.name == "digits: soft"]
    expected = [soft - labels for soft, labels in zip(rows["soft"], rows["hard-labels"], strict=True)]
    assert gain.values == pytest.approx(expected)


def test_the_accuracy_of_a_seed_is_that_of_its_stored_model(result: ReproductionResult) -> None:
    """Each comparison has one replica, whose ONNX file is the model of the run."""
    test = load_dataset(load_paper_experiment(EXPERIMENTS["digits"]).data).read_test()
    for seed, comparison in enumerate(result.runs):
        (student,) = [run for run in tracking.children(comparison) if run.name == "soft"]
        predicted = served_logits(run_model(student.run_id), test).argmax(axis=1)
        accuracy = 100 * float((predicted == test.labels.numpy()).mean())
        assert result.tables[0].rows["soft"][seed] == pytest.approx(accuracy)


def test_the_result_is_in_the_store_and_in_the_folder(result: ReproductionResult, folder: Path) -> None:
    (run,) = tracking.runs(kind="reproduction")
    assert (run.name, run.status, run.tags[Tag.REPRODUCTION]) == (f"reproduce {NAME}", "FINISHED", NAME)
    assert ReproductionResult.model_validate(tracking.read_json(run.run_id, RESULT)) == result
    assert ReproductionResult.model_validate_json((folder / f"{NAME}.json").read_text()) == result
    assert tracking.has_artifact(run.run_id, "table-1.png")
    assert "claim/digits_ soft" in run.metrics
    assert latest_results() == {}  # a quick result does not count


def test_the_test_split_is_read_after_the_training_and_no_student_is_promoted(result: ReproductionResult) -> None:
    for run_id in result.runs:
        comparison = tracking.get(run_id)
        assert comparison.tags[Tag.REPRODUCTION] == NAME
        assert Tag.PROMOTED not in comparison.tags
        with pytest.raises(UserError, match=rf"belongs to the reproduction {NAME}, which reads the test"):
            find_candidate(run_id)
    student = next(run for run in tracking.children(result.runs[0]) if run.name == "soft")
    with pytest.raises(UserError, match="is in no leaderboard of kd run"):
        find_candidate(student.run_id)
    assert not [name for name in student.metrics if name.startswith("test")]
    assert tracking.registered_runs() == set()


def test_more_seeds_reuse_the_finished_seeds(result: ReproductionResult) -> None:
    trained = {run.run_id for run in tracking.runs(kind="student", limit=1000)}
    again = reproduce(NAME, ReproduceOptions(seeds=2, quick=True))
    assert {run.run_id for run in tracking.runs(kind="student", limit=1000)} == trained
    assert again.outcomes == result.outcomes
    assert again.runs != result.runs


def test_seeds_of_one_teacher_extend_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = replace(papers.REPRODUCTIONS[NAME], own_teachers=False)
    monkeypatch.setitem(papers.REPRODUCTIONS, NAME, shared)
    result = reproduce(NAME, ReproduceOptions(seeds=2, quick=True))
    (table,) = result.tables
    counts = {name: len(values) for name, values in table.rows.items()}
    assert counts.pop("(teacher)") == 1
    assert set(counts.values()) == {2}
    assert len(result.runs) == 1


def test_a_reproduction_without_experiments_is_recorded_too(folder: Path) -> None:
    result = reproduce("notes-gradient", ReproduceOptions(seeds=2, output=str(folder)))
    assert (result.summary, result.runs) == ("5 agree", [])
    assert (
        json.loads((folder / "notes-gradient.json").read_text())["command"] == "kd reproduce notes-gradient --seeds 2"
    )
    assert latest_results()["notes-gradient"] == result


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--output: .*notes-gradient\.json: .*\. Allowed: a writable folder$"):
        reproduce("notes-gradient", ReproduceOptions(seeds=1, output=str(tmp_path / "file")))


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown reproduction"):
        reproduce("nothing")
