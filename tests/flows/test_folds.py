"""Cross-validation: each part of the training examples is the validation split once."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.distill import distill, plan_only
from flows.promote import promote
from kdmodels.data import load_dataset
from kdmodels.data.holdout import fold_numbers
from kdmodels.errors import UserError
from kdmodels.evaluation.predictions import correct
from kdmodels.experiment import Data, Experiment
from kdmodels.networks import load_network
from kdmodels.report.leaderboard import leaderboard
from tasks import tracking
from tasks.prepare_data import find_training_data
from tasks.queries import compare
from tasks.report_contents import read_contents

EXPERIMENT = Experiment.model_validate(
    {
        "name": "folded",
        "threads": 1,
        "data": {"source": "digits", "subset": 500, "folds": 3},
        "teacher": {"network": {"mlp": [16]}, "epochs": 2},
        "student": {"network": {"mlp": [8]}, "epochs": 4, "seeds": 2},
        "variants": ["hard-labels", "kd"],
    }
)


@pytest.mark.fault
def test_every_example_is_validated_once_and_counts_in_the_leaderboard(
    new_store: Callable[[Path], str], tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    outcome = distill(EXPERIMENT)
    children = tracking.children(outcome.parent_run_id)
    assert sorted(run.name for run in children) == sorted(
        f"{name} {fold}/3" for name in ("teacher", "hard-labels", "kd") for fold in (1, 2, 3)
    )
    rows, right = compare([outcome.parent_run_id])
    for row in rows:
        assert right[row.run_id].outcomes.shape == (2, 500)
        assert row.metrics["val/accuracy"] == pytest.approx(np.mean(row.per_seed["val/accuracy"]))
        assert right[row.run_id].outcomes.mean(axis=1) == pytest.approx(row.per_seed["val/accuracy"])
        stored = []
        for fold, run_id in enumerate(row.folds):  # the accuracy of the stored networks
            network, _ = load_network(tracking.artifact(run_id, "network"))
            validation = load_dataset(EXPERIMENT.data, fold=fold).validation
            stored.append(correct(network, validation).double().mean().item())
        best = [max(replica["figures"]["val/accuracy"] for replica in tracking.read_json(
            run_id, "replicas/replicas.json")) for run_id in row.folds]  # fmt: skip
        assert stored == pytest.approx(best)
    teachers = [run.metrics["val/accuracy"] for run in children if run.kind == "teacher"]
    assert outcome.teacher.metrics["val/accuracy"] == pytest.approx(np.mean(teachers), abs=0.002)
    assert sum(row.evidence.wins for row in leaderboard(rows, right)) == pytest.approx(1)
    contents = read_contents(tracking.get(outcome.parent_run_id))
    assert contents.teacher is not None
    assert contents.teacher.accuracy == pytest.approx(outcome.teacher.metrics["val/accuracy"])
    assert contents.predictions is not None
    assert contents.predictions.examples == len(load_dataset(EXPERIMENT.data, fold=0).validation)
    first_fold = next(row.run_id for row in rows if row.variant == "kd")
    again, outcomes = compare([outcome.parent_run_id, first_fold])  # the row of all folds does not change
    assert again == rows
    assert outcomes[first_fold].outcomes.shape == (2, 500)
    ids = {run.name: run.run_id for run in children}
    of_one_fold, _ = compare([ids["kd 1/3"], ids["hard-labels 1/3"]])
    assert {row.control for row in of_one_fold} == {"hard-labels"}
    with pytest.raises(UserError, match="these students were validated on different images"):
        compare([ids["kd 1/3"], ids["hard-labels 1/3"], ids["hard-labels 2/3"]])
    third = next(run for run in children if run.name == "kd 3/3")
    assert find_training_data(tracking.get(outcome.parent_run_id), third, None, ()).fold == 2
    with pytest.raises(UserError, match=rf"is of a later fold\. Allowed: the student of the first fold, {first_fold}"):
        promote(third.run_id)
    indices = tracking.read_json(outcome.parent_run_id, "splits.json")
    assert sorted(chain.from_iterable(fold["validation"] for fold in indices)) == sorted(
        indices[0]["train"] + indices[0]["validation"]
    )
    winner = next(row for row in rows if row.variant == outcome.verdict.winner)
    champion = tracking.champion("folded-student")
    assert champion is not None
    assert champion.run_id == winner.folds[0]
    assert promote(outcome.parent_run_id).already_champion
    again = plan_only(EXPERIMENT)
    assert [step.action for step in again.steps] == ["reuse"] * 9
    longer = plan_only(EXPERIMENT.model_copy(update={"student": EXPERIMENT.student.model_copy(update={"epochs": 5})}))
    assert {step.reason for step in longer.steps if step.kind == "student"} == {"epochs: 4 -> 5"}


def test_folds_are_disjoint_complete_stratified_and_depend_on_content_only() -> None:
    whole = [load_dataset(Data(source="digits", folds=4), fold=fold) for fold in range(4)]
    held = [data.indices["validation"] for data in whole]
    assert sorted(chain.from_iterable(held)) == sorted(whole[0].indices["train"] + held[0])
    assert max(map(len, held)) - min(map(len, held)) <= 10
    for data in whole:
        counts = torch.bincount(data.validation.labels)
        assert counts.max() - counts.min() <= 3
        assert set(data.indices["train"]).isdisjoint(data.indices["validation"])
    assert len({data.split_digests["test"] for data in whole}) == 1
    assert len({data.digest for data in whole}) == 4


def test_each_class_is_split_equally_between_folds() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [7, 10, 3])
    numbers = fold_numbers(labels, generator.integers(2**60, size=(20, 2)), 3)
    assert [np.bincount(numbers[labels == label]).tolist() for label in range(3)] == [[3, 2, 2], [4, 3, 3], [1, 1, 1]]


def test_a_class_that_is_too_small_for_the_folds_is_named(tmp_path: Path) -> None:
    labels = np.array(["cat"] * 20 + ["owl"] * 3)
    path = tmp_path / "few.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 255, (23, 4, 4), dtype=np.uint8), labels=labels)
    with pytest.raises(
        UserError, match=r"data\.folds: 5 is more than the training examples of owl \(2\)\. Allowed: at most 2"
    ):
        load_dataset(Data(source=str(path), folds=5))
