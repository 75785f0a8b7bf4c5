"""The search for a student's hyperparameters: recorded once, reused by key, and never on the validation split."""

import json
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from flows.distill import distill
from kdmodels.experiment import Experiment
from kdmodels.training import fit
from tasks import queries, tracking
from tasks.planning.plan import make_plan
from tasks.prepare_data import load, prepare_data
from tasks.references import Outcome
from tasks.report_contents import read_contents
from tasks.tracking.tags import Tag
from tasks.training_runs import recorded_network
from tests.conftest import SMALL

TUNED: dict[str, Any] = SMALL | {
    "student": {"network": {"mlp": [8]}, "epochs": 2, "seeds": 2},
    "tune": {"trials": 3, "epochs": 1, "space": {"lr": [1e-3, 1e-1]}},
}


def run(store: object, **changes: Any) -> Outcome:
    return distill(Experiment.model_validate(TUNED | changes))


@pytest.mark.usefixtures("prefect_server")
def test_every_variant_has_one_search_and_is_trained_with_its_best_trial(store: object) -> None:
    outcome = run(store)
    searches = {run.name: run for run in tracking.runs(kind="tuning")}
    assert searches.keys() == {"hard-labels tuning", "kd tuning"}
    for student in outcome.students:
        assert student.run_id is not None
        run_, search = tracking.get(student.run_id), searches[f"{student.variant} tuning"]
        trials = pd.read_csv(tracking.artifact(search.run_id, "tuning.csv"))
        assert trials["trial"].tolist() == [1, 2, 3]
        assert trials["lr"][0] == 0.001
        with Image.open(tracking.artifact(search.run_id, "tuning.png")) as plot:
            assert plot.size == (360 * (len(trials.columns) - 2), 400)
        best = trials.loc[trials["inner_accuracy"].idxmax()]
        chosen = json.loads(search.tags[Tag.TUNED])
        assert chosen == pytest.approx({name: best[name] for name in chosen})
        assert run_.tags[Tag.TUNING] == search.run_id
        assert float(run_.tags["kd.tuned.lr"]) == pytest.approx(chosen["lr"], rel=1e-5)
        assert student.trials == 3
    reported = read_contents(tracking.get(outcome.parent_run_id)).trials
    for name, search in searches.items():
        trials = pd.read_csv(tracking.artifact(search.run_id, "tuning.csv"))
        shown = [trial for trial in reported if f"{trial.variant} tuning" == name]
        assert [trial.accuracy for trial in shown] == pytest.approx(trials["inner_accuracy"].tolist())
        assert [trial.values["lr"] for trial in shown] == pytest.approx(trials["lr"].tolist())
    details = queries.show(outcome.students[1].run_id or "")
    used = details.model_dump()["trained_with"]
    assert used == pytest.approx(
        {
            "hard_labels.weight": 1.0,
            "lr": json.loads(searches["kd tuning"].tags[Tag.TUNED])["lr"],
            "soft_targets.temperature": json.loads(searches["kd tuning"].tags[Tag.TUNED])["soft_targets.temperature"],
            "soft_targets.weight": float(details.params["calibrated.soft_targets"]),
        },
        rel=1e-5,
    )
    accuracies = [trial["inner_accuracy"] for trial in details.model_dump()["trials"]]
    assert accuracies == sorted(accuracies, reverse=True)
    again = run(store)
    assert all(student.reused and student.trials == 3 for student in again.students)
    more = run(store, student=TUNED["student"] | {"seeds": 3})
    assert [student.seeds for student in more.students] == [[0, 1, 2]] * 2
    assert len(tracking.runs(kind="tuning")) == 2


def test_the_rule_of_the_search_is_part_of_the_key_and_no_rule_changes_no_key(store: object) -> None:
    data = prepare_data.fn(Experiment.model_validate(TUNED).data, None)

    def keys(**changes: Any) -> list[str]:
        experiment = Experiment.model_validate(TUNED | changes)
        return [step.key for step in make_plan(experiment, data).students]

    untuned = make_plan(Experiment.model_validate(TUNED | {"tune": None}), data)
    assert not untuned.searches
    assert not any(name.startswith(("tune", "code.tuning")) for step in untuned.students for name in step.params)
    rules = [
        None,
        {"trials": 3},
        {"trials": 4},
        {"trials": 3, "epochs": 1},
        {"trials": 3, "space": {"lr": [1e-3, 1.0]}},
    ]
    assert len({key for rule in rules for key in keys(tune=rule)}) == 2 * len(rules)
    temperature = [keys(tune={"trials": 3, "space": {"temperature": [1.0, high]}}) for high in (8.0, 9.0)]
    assert temperature[0][0] == temperature[1][0]  # the control has no temperature
    assert temperature[0][1] != temperature[1][1]


@pytest.mark.usefixtures("prefect_server")
def test_trials_are_trained_and_compared_on_the_training_split_only(
    store: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def watched(*arguments: Any, **named: Any) -> Any:
        seen.append({"train": arguments[3], "validation": arguments[4], **named})
        return fit(*arguments, **named)

    monkeypatch.setattr("tasks.tune_student.fit", watched)
    experiment = Experiment.model_validate(TUNED)
    run(store)
    dataset = load(prepare_data.fn(experiment.data, None))
    assert len(seen) == 2
    for call in seen:
        kept, inner = call["examples"], call["validation"]
        rows = dataset.train.rows
        assert rows is not None
        assert set(inner.rows.tolist()) <= set(rows.tolist())
        assert set(rows[kept].tolist()).isdisjoint(inner.rows.tolist())
        assert len(kept) + len(inner) == len(dataset.train)
        assert len(set(call["seeds"])) == 1
        assert call["seeds"][0] not in (0, 1)
        if call["knowledge"]:
            train, held = call["knowledge"]
            torch.testing.assert_close(held.logits, train[0].logits[torch.isin(rows, inner.rows)])


@pytest.mark.fault  # takes long
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("views", ["auto", 0])
def test_trials_of_augmented_images_are_compared_on_images_without_augmentation(store: object, views: object) -> None:
    outcome = run(store, data={"source": "digits", "augment": [{"jitter": 1}]}, knowledge={"views": views})
    assert all(student.finished for student in outcome.students)


@pytest.mark.fault  # takes long
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("views", ["auto", 0])
@pytest.mark.parametrize("operation", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_no_held_out_image_is_mixed_into_an_image_of_a_trial(
    store: object, monkeypatch: pytest.MonkeyPatch, views: object, operation: dict[str, float]
) -> None:
    calls: list[bool] = []

    def watched(*arguments: Any, **named: Any) -> Any:
        train, held, augmentation = arguments[3], arguments[4], named["augmentation"]
        assert named["examples"] is None  # so the images below are all that the trials see
        assert set(train.pixel_rows.tolist()).isdisjoint(held.pixel_rows.tolist())
        rows = torch.arange(len(train))
        if named["knowledge"] and views:
            teacher, _ = recorded_network(tracking.runs(kind="teacher")[0].run_id, [])
            (of_view,) = named["knowledge"][0]  # a trial has one epoch
            images = augmentation.view(train, 1).batch(rows)
            with torch.no_grad():
                torch.testing.assert_close(of_view.logits.float(), teacher.eval()(images), rtol=1e-3, atol=1e-2)
        calls.append(bool(named["knowledge"]))
        return fit(*arguments, **named)

    monkeypatch.setattr("tasks.tune_student.fit", watched)
    outcome = run(store, data={"source": "digits", "augment": [{"jitter": 1}, operation]}, knowledge={"views": views})
    assert all(student.finished for student in outcome.students)
    assert sorted(calls) == [False, True]


@pytest.mark.fault  # takes long
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("transfer", [
    {"unlabelled": "rest", "classes": [0, 1, 2]},
    {"unlabelled": "rest", "classes": [0, 1, 2], "count": 50},
])  # fmt: skip
def test_trials_leave_out_the_held_out_images_however_an_epoch_is_made(
    store: object, monkeypatch: pytest.MonkeyPatch, transfer: dict[str, object]
) -> None:
    trained: dict[str, list[tuple[int, int]]] = {"hard_labels": [], "soft_targets": []}

    def watched(*arguments: Any, **named: Any) -> Any:
        train, held, examples = arguments[3], arguments[4], named["examples"]
        images = (train.images if examples is None else train.batch(examples)).flatten(1)
        assert not any((images == image).all(dim=1).any() for image in held.images.flatten(1))
        trained[arguments[1][-1].loss].append((len(images), len(held)))
        return fit(*arguments, **named)

    monkeypatch.setattr("tasks.tune_student.fit", watched)
    outcome = run(store, data={"source": "digits", "labelled": 200, "transfer": transfer})
    assert [student.variant for student in outcome.students] == ["hard-labels", "hard-labels-equal-steps", "kd"]
    assert all(student.finished for student in outcome.students)
    (distilled,) = trained["soft_targets"]
    assert sorted(trained["hard_labels"]) == sorted([(160, 40), distilled])  # equal steps in the search, too
    assert (distilled[0] > 160) == ("count" not in transfer)


@pytest.mark.usefixtures("prefect_server")
def test_an_interrupted_search_continues_and_others_are_not_repeated(
    store: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments[1][-1].loss)
        if calls == ["hard_labels", "soft_targets"] or calls == ["soft_targets", "hard_labels"]:
            raise KeyboardInterrupt
        return fit(*arguments, **named)

    monkeypatch.setattr("tasks.tune_student.fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(store)
    run(store)
    assert len(calls) == 3  # only the interrupted search ran again
    assert {search.status for search in tracking.runs(kind="tuning")} == {"FINISHED"}
    assert len(tracking.runs(kind="tuning")) == 2
