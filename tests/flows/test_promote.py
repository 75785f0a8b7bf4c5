"""The gate on real runs: what it reads, whom it promotes, and how that is undone."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from flows.distill import Options, Outcome, distill
from flows.promote import find, promote, rollback
from kdmodels.data import load_dataset
from kdmodels.errors import UserError
from kdmodels.evaluation import predict
from kdmodels.experiment import Data, Experiment
from kdmodels.gate import Verdict, decide
from kdmodels.networks import load_network
from tasks import promotion, tracking
from tasks.references import VerdictReference

SMALL: dict[str, Any] = {
    "name": "small",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "teacher": {"network": {"mlp": [32]}, "epochs": 4},
    "student": {"network": {"mlp": [8]}, "epochs": 3, "seeds": 2},
    "variants": ["hard-labels"],
}
LONG = SMALL["student"] | {"epochs": 25}
Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def run(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Run]:
    """Run the small experiment with some fields replaced, all in one store of this module."""

    def run(fresh: bool = False, **changes: Any) -> Outcome:
        return distill(Experiment.model_validate(SMALL | changes), Options(fresh=fresh))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        yield run


def student(outcome: Outcome, variant: str) -> tracking.Run:
    (found,) = [student for student in outcome.students if student.variant == variant]
    assert found.run_id is not None
    return tracking.get(found.run_id)


def ask_for(outcome: Outcome, **rules: Any) -> None:
    """From now on its comparison asks for another promotion than it was run with."""
    experiment = tracking.read_json(outcome.parent_run_id, "experiment.json")
    experiment["promote"] |= rules
    tracking.log_json(outcome.parent_run_id, "experiment.json", experiment)


def reads_of_test(outcome: Outcome) -> int:
    return int(tracking.get(outcome.parent_run_id).tags["kd.test_reads"])


def test_a_reported_variant_has_its_test_accuracy_whichever_wins(run: Run) -> None:
    outcome = run(variants=["hard-labels", "kd", "hint"], promote={"report": ["hint", "kd"]})
    assert {"hint", "kd", "hard-labels"} <= set(outcome.verdict.test_accuracy)


def test_promotion_asked_for_again_and_rolled_back(run: Run) -> None:
    better = run(name="other", promote={"model": "moved"})
    assert better.verdict.promoted
    assert promote(better.parent_run_id).already_champion
    with pytest.raises(UserError, match="previous"):
        rollback("moved")
    long = run(name="other", promote={"model": "moved"}, student=LONG)
    assert long.verdict.promoted
    assert "is better" in long.verdict.reason
    assert (long.verdict.version, rollback("moved").version) == (2, 1)
    nightly = run(name="other", promote={"model": "moved"}, student=LONG)
    assert "was rolled back" in nightly.verdict.reason
    assert (nightly.verdict.promoted, nightly.verdict.version) == (False, 1)
    anew = run(
        fresh=True,
        name="other",
        promote={"model": "moved"},
        student=LONG,
    )
    assert "was rolled back" in anew.verdict.reason
    assert promote(long.parent_run_id).version == 2
    reused = student(anew, "hard-labels").run_id  # of the newest comparison that it is in, not the one that trained it
    assert find(reused) == (tracking.get(anew.parent_run_id), "hard-labels")
    assert len(tracking.versions("moved")) == 2


def test_a_budget_that_does_not_hold_refuses_and_registers_nothing(run: Run) -> None:
    outcome = run(name="strict", promote={"require": {"accuracy": ">= 0.999"}})
    assert not outcome.verdict.promoted
    assert "required >= 0.999" in outcome.verdict.reason
    assert tracking.champion("strict-student") is None
    with pytest.raises(UserError, match="strict-student"):
        tracking.find_model("strict-student")


def test_budgets_of_latency_and_of_the_weakest_class_are_held(run: Run) -> None:
    outcome = run(name="slow", promote={"require": {"latency_ms": "<= 1e-6"}})
    slow = outcome.verdict
    assert "the median time of one image in ms is " in slow.reason
    (budget,) = slow.evidence["budgets"]
    assert budget["value"] == student(outcome, "hard-labels").metrics["latency/p50_ms"]
    weak = run(name="weak", promote={"require": {"class_accuracy": ">= 0.99"}}).verdict
    assert re.search(r"accuracy on class '\d' is 0(\.\d+)?, required >= 0\.99", weak.reason)
    assert [slow.promoted, weak.promoted] == [False, False]


def test_a_student_is_not_promoted_on_other_data_than_it_was_trained_on(run: Run) -> None:
    """What is a test split there may be what it has learnt."""
    outcome = run(name="swapped")
    other = tracking.read_json(outcome.parent_run_id, "experiment.json")
    other["data"]["validation"] = 0.3
    tracking.log_json(outcome.parent_run_id, "experiment.json", other)
    with pytest.raises(UserError, match="holds other data than hard-labels was trained on"):
        promote(outcome.parent_run_id)


def test_a_dry_run_says_each_rule_and_changes_nothing_but_the_count(run: Run) -> None:
    rules = {"accuracy": ">= 0.3", "ece": "<= 1", "agreement": ">= 0.99"}
    run(name="dry", promote={"model": "dry"})
    outcome = run(name="dry", promote={"model": "dry", "require": rules}, student=LONG)
    assert (outcome.verdict.promoted, outcome.verdict.version, reads_of_test(outcome)) == (False, 1, 1)
    before = tracking.get(outcome.parent_run_id), tracking.versions("dry"), student(outcome, "hard-labels")
    told = promote(outcome.parent_run_id, dry_run=True)
    assert told == outcome.verdict.model_copy(update={"dry_run": True})
    rule = {one["name"]: one for one in (*told.evidence["budgets"], *told.evidence["succession"])}
    assert [(name, one["holds"]) for name, one in rule.items()] == [
        ("accuracy", True),
        ("ece", True),
        ("agreement", False),
        ("smaller: parameters", False),
        ("better than the champion: one-sided p", True),
    ]
    after = tracking.get(outcome.parent_run_id), tracking.versions("dry"), student(outcome, "hard-labels")
    assert after == before


def look(verdict: VerdictReference) -> int:
    assert verdict.evidence["look"] is not None
    return verdict.evidence["look"]["number"]


def test_a_look_is_taken_where_a_new_challenger_meets_a_champion_and_nowhere_else(run: Run) -> None:
    """The champion was trained for longer than its challengers, so that it stays."""
    rules = {"model": "nights", "looks": 4}

    def night(number: int, fresh: bool = False) -> Outcome:
        return run(fresh=fresh, name="nights", seed=10 * number, promote=rules)

    first = run(name="nights", student=LONG, promote=rules).verdict
    assert (first.promoted, first.evidence["look"]) == (True, None)
    assert run(name="nights", student=LONG, promote=rules).verdict.evidence["look"] is None  # already champion
    second = night(1)
    assert (look(second.verdict), look(night(1).verdict)) == (1, 1)  # reused the second time
    assert look(promote(second.parent_run_id)) == look(promote(second.parent_run_id, dry_run=True)) == 1
    third = run(name="nights", seed=20, promote={"model": "elsewhere"})
    ask_for(third, **rules)
    assert look(promote(third.parent_run_id, dry_run=True)) == 2  # a dry run of a new pair tells what test says
    assert look(promote(third.parent_run_id)) == 2
    again = night(1, fresh=True).verdict
    assert (again.promoted, look(again)) == (False, 1)  # trained again, and the same bit for bit
    assert "This was look 1 of 4 at this test split, level 2.4 %." in again.reason
    assert [look(night(number).verdict) for number in (3, 4)] == [3, 4]
    spent = night(5)
    assert not spent.verdict.promoted
    assert "all 4 looks at this test split are spent" in spent.verdict.reason
    assert "use new test images" in spent.verdict.reason
    forced = promote(spent.parent_run_id, force="no other images")
    assert (forced.promoted, forced.version) == (True, 2)


def test_calibration_and_agreement_are_those_of_the_stored_networks(run: Run) -> None:
    outcome = run(name="rules", promote={"require": {"ece": "<= 1", "agreement": ">= 0"}}, variants=["kd"])
    test = load_dataset(Data.model_validate(SMALL["data"])).read_test()
    networks = [load_network(tracking.artifact(run_id, "network"))[0] for run_id in (
        student(outcome, outcome.verdict.winner).run_id, outcome.teacher.run_id)]  # fmt: skip
    one, other = (predict(network, test).softmax(dim=1) for network in networks)
    agreed, n = int((one.argmax(dim=1) == other.argmax(dim=1)).sum()), len(test)
    wilson = stats.binomtest(agreed, n).proportion_ci(method="wilson").low
    confidence, right = one.amax(dim=1), one.argmax(dim=1) == test.labels
    places = (confidence * 15).ceil()
    gaps = [abs((right[places == bin].double() - confidence[places == bin]).sum().item()) for bin in range(16)]
    ece, agreement = outcome.verdict.evidence["budgets"]
    assert (ece["value"], agreement["value"]) == pytest.approx((sum(gaps) / n, wilson), abs=1e-5)
    assert student(outcome, outcome.verdict.winner).metrics["test/ece"] == ece["value"]


def test_what_the_gate_refuses_is_promoted_by_force_and_the_version_says_why(run: Run) -> None:
    outcome = run(name="forced", promote={"require": {"accuracy": ">= 0.999"}})
    assert not outcome.verdict.promoted
    verdict = promote(outcome.parent_run_id, force="the customer waits")
    assert (verdict.promoted, verdict.version, verdict.forced) == (True, 1, "the customer waits")
    (version,) = tracking.versions("forced-student")
    assert version.aliases == ("champion",)
    assert version.tags["kd.forced"] == "the customer waits"
    assert verdict.reason.startswith(
        "hard-labels is promoted by force: the customer waits. The gate said: hard-labels is"
    )


def test_force_is_not_recorded_where_the_gate_agrees(run: Run) -> None:
    outcome = run(name="agreed")
    assert promote(outcome.parent_run_id, force="to be sure").already_champion
    rival = run(name="agreed", student=LONG, promote={"model": "none", "require": {"accuracy": ">= 0.999"}})
    ask_for(rival, model="agreed-student", require={})
    verdict = promote(rival.parent_run_id, force="to be sure")
    assert (verdict.promoted, verdict.forced) == (True, None)
    assert "kd.forced" not in tracking.versions("agreed-student")[0].tags


def test_a_test_split_that_has_changed_is_said(run: Run, tmp_path: Path) -> None:
    """A pool grows, and with it its test split: the champion is measured on today's, and the verdict says so."""
    pool = load_dataset(Data(source="digits", validation=0.2))
    path, images, labels = tmp_path / "pool.npz", pool.train.images.numpy(), pool.train.labels.numpy()

    def grown(count: int, epochs: int) -> Outcome:
        np.savez(path, images=(images[:count] * 255).astype(np.uint8), labels=labels[:count])
        return run(name="grown", data={"source": str(path)}, student=SMALL["student"] | {"epochs": epochs})

    first, same, little, larger = grown(500, 3), grown(500, 4), grown(520, 5), grown(1_294, 25)
    assert first.verdict.promoted
    assert not same.verdict.evidence["test"]["changed"]
    assert larger.verdict.evidence["test"]["changed"]
    told = "The test split is not the one on which the champion, version 1 was promoted."
    assert [told in outcome.verdict.reason for outcome in (first, same, larger)] == [False, False, True]
    # A split that grew a little continues the count; one of mostly new images begins a new one.
    assert [look(outcome.verdict) for outcome in (same, little, larger)] == [1, 2, 1]
    assert larger.verdict.evidence["vs_champion"]["n"] > first.verdict.evidence["n"]  # today's images


def test_of_two_promotions_at_once_the_second_meets_the_first(run: Run) -> None:
    """Two students as good as each other: one becomes the champion, the other is measured against it."""
    pair = [run(name=name, seed=seed, student=LONG, promote={"model": "alone", "require": {"accuracy": ">= 0.999"}})
            for name, seed in (("one", 0), ("two", 7))]  # fmt: skip
    for outcome in pair:
        ask_for(outcome, model="contested", require={})
    verdicts: list[Any] = []
    threads = [
        threading.Thread(target=lambda run_id=outcome.parent_run_id: verdicts.append(promote(run_id)))
        for outcome in pair
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [verdict.evidence["champion"] is None for verdict in verdicts] == [True, False]
    assert [(verdict.promoted, verdict.version) for verdict in verdicts] == [(True, 1), (False, 1)]
    told = "hard-labels does not replace the champion, version 1: it is neither shown to be better ("
    assert verdicts[-1].reason.startswith(told)
    assert [version.aliases for version in tracking.versions("contested")] == [("champion",)]


@pytest.mark.parametrize(
    ("model", "require", "force"),
    [("raced", {}, None), ("raced-by-force", {"accuracy": ">= 0.999"}, "the customer waits")],
)
def test_a_champion_changed_on_another_machine_is_not_replaced_unseen(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: str, require: dict[str, str], force: str | None
) -> None:
    """There no lock of this machine's holds: another student is crowned between the gate and the registry."""
    other = student(run(name="elsewhere"), "hard-labels").run_id
    outcome = run(name=model, student=LONG, promote={"model": model, "require": {"accuracy": ">= 0.999"}})
    ask_for(outcome, require=require)

    def slow(*candidates: Any, **rules: Any) -> Verdict:
        verdict = decide(*candidates, **rules)
        tracking.crown(tracking.register(model, other, tags={}, description="of another machine"))
        return verdict

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "decide", slow)
        verdict = promote(outcome.parent_run_id, force=force)
    again = f"ask again: kd promote {student(outcome, 'hard-labels').run_id[:8]}"
    assert verdict.reason == f"the champion of {model} was changed meanwhile; {again}"
    assert (verdict.promoted, verdict.version, verdict.forced) == (False, 1, None)
    assert [(version.run_id, version.aliases) for version in tracking.versions(model)] == [(other, ("champion",))]
    tags = tracking.get(outcome.parent_run_id).tags
    assert (tags["kd.verdict"], tags["kd.promoted"]) == (verdict.reason, "False")
    verdict = promote(outcome.parent_run_id, force=force)
    assert (verdict.promoted, verdict.version, verdict.forced) == (True, 2, force)


def test_a_rollback_to_a_version_that_is_named(run: Run) -> None:
    for epochs in (3, 4, 5):
        outcome = run(name="back", student=SMALL["student"] | {"epochs": epochs})
        promote(outcome.parent_run_id, force="the next")
    assert [version.version for version in tracking.versions("back-student")] == [3, 2, 1]
    assert rollback("back-student", 1).version == 1
    champion, previous = (tracking.find_model(f"back-student@{alias}").version for alias in ("champion", "previous"))
    assert (champion, previous) == (1, 3)
    assert "kd.rolled_back" in tracking.find_model("back-student/3").tags
    with pytest.raises(UserError, match="version 1 is the champion"):
        rollback("back-student", 1)
    with pytest.raises(UserError, match="has no version 9; it has: 1, 2, 3"):
        rollback("back-student", 9)
