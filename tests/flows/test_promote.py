"""The gate on real runs: which splits it reads, which student it promotes, and how a rollback undoes a promotion."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from flows.distill import Options, Outcome, distill
from flows.promote import promote
from flows.review import approve, reject
from flows.rollback import rollback
from kdmodels.data import load_dataset
from kdmodels.errors import UserError
from kdmodels.evaluation.gate import Verdict, decide
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Data, Experiment
from kdmodels.networks import load_network
from tasks import promotion, tracking
from tasks.promotion_candidates import find_candidate
from tasks.references import VerdictReference
from tasks.results import REPORT
from tests.conftest import SMALL

EXPERIMENT = SMALL | {"variants": ["hard-labels"]}
LONG = EXPERIMENT["student"] | {"epochs": 25}
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


def student(outcome: Outcome, variant: str) -> tracking.Run:
    (reference,) = [student for student in outcome.students if student.variant == variant]
    assert reference.run_id is not None
    return tracking.get(reference.run_id)


def ask_for(outcome: Outcome, **rules: Any) -> None:
    """Change the promotion rules that the comparison recorded."""
    experiment = tracking.read_json(outcome.parent_run_id, "experiment.json")
    experiment["promote"] |= rules
    tracking.log_json(outcome.parent_run_id, "experiment.json", experiment)


def reads_of_test(outcome: Outcome) -> int:
    return int(tracking.get(outcome.parent_run_id).tags["kd.test_reads"])


def test_a_reported_variant_has_a_test_accuracy_even_if_another_wins(run: Run) -> None:
    outcome = run(variants=["hard-labels", "kd", "hint"], promote={"report": ["hint", "kd"]})
    assert {"hint", "kd", "hard-labels"} <= set(outcome.verdict.test_accuracy)


def test_a_promotion_is_repeated_and_rolled_back(run: Run) -> None:
    better = run(name="other", promote={"model": "moved"})
    assert better.verdict.promoted
    assert promote(better.parent_run_id).already_champion
    assert "already champion" in tracking.artifact(better.parent_run_id, REPORT).read_text()
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
    reused = student(anew, "hard-labels").run_id  # found in the newest comparison, which did not train it
    assert find_candidate(reused) == (tracking.get(anew.parent_run_id), "hard-labels")
    assert len(tracking.versions("moved")) == 2


def test_a_broken_requirement_refuses_and_registers_nothing(run: Run) -> None:
    outcome = run(name="strict", promote={"require": {"accuracy": ">= 0.999"}})
    assert not outcome.verdict.promoted
    assert "required >= 0.999" in outcome.verdict.reason
    assert tracking.champion("strict-student") is None
    with pytest.raises(UserError, match="strict-student"):
        tracking.find_model("strict-student")


def test_requirements_of_latency_and_of_the_weakest_class_are_checked(run: Run) -> None:
    outcome = run(name="slow", promote={"require": {"latency_ms": "<= 1e-6"}})
    slow = outcome.verdict
    assert "the median time of one image in ms is " in slow.reason
    (budget,) = slow.evidence["budgets"]
    assert budget["value"] == student(outcome, "hard-labels").metrics["latency/p50_ms"]
    weak = run(name="weak", promote={"require": {"class_accuracy": ">= 0.99"}}).verdict
    assert re.search(r"accuracy on class '\d' is 0(\.\d+)?, required >= 0\.99", weak.reason)
    assert [slow.promoted, weak.promoted] == [False, False]


def test_a_student_is_not_promoted_on_other_data_than_it_was_trained_on(run: Run) -> None:
    """The test split of other data may hold examples that the student was trained on."""
    outcome = run(name="swapped")
    other = tracking.read_json(outcome.parent_run_id, "experiment.json")
    other["data"]["validation"] = 0.3
    tracking.log_json(outcome.parent_run_id, "experiment.json", other)
    with pytest.raises(UserError, match="holds other data than hard-labels was trained on"):
        promote(outcome.parent_run_id)


def test_a_dry_run_shows_each_rule_and_changes_only_the_count_of_reads(run: Run) -> None:
    rules = {"accuracy": ">= 0.3", "ece": "<= 1", "agreement": ">= 0.99"}
    run(name="dry", promote={"model": "dry"})
    outcome = run(name="dry", promote={"model": "dry", "require": rules}, student=LONG)
    assert (outcome.verdict.promoted, outcome.verdict.version, reads_of_test(outcome)) == (False, 1, 1)
    before = tracking.get(outcome.parent_run_id), tracking.versions("dry"), student(outcome, "hard-labels")
    verdict = promote(outcome.parent_run_id, dry_run=True)
    assert verdict == outcome.verdict.model_copy(update={"dry_run": True})
    rule = {one["name"]: one for one in (*verdict.evidence["budgets"], *verdict.evidence["succession"])}
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


@pytest.mark.fault
def test_a_look_is_counted_only_if_a_new_challenger_meets_a_champion(run: Run) -> None:
    """The champion was trained for longer than its challengers, so no challenger replaces it."""
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
    assert look(promote(third.parent_run_id, dry_run=True)) == 2  # a dry run of a new pair reveals the test result
    assert look(promote(third.parent_run_id)) == 2
    again = night(1, fresh=True).verdict
    assert (again.promoted, look(again)) == (False, 1)  # trained again, with a bit-identical result
    assert "This was look 1 of 4 at this test split, level 2.4 %." in again.reason
    assert [look(night(number).verdict) for number in (3, 4)] == [3, 4]
    spent = night(5)
    assert not spent.verdict.promoted
    assert "all 4 looks at this test split are spent" in spent.verdict.reason
    assert "Allowed: new test images" in spent.verdict.reason
    forced = promote(spent.parent_run_id, force="no other images")
    assert (forced.promoted, forced.version) == (True, 2)


def test_calibration_and_agreement_are_of_the_stored_networks(run: Run) -> None:
    outcome = run(name="rules", promote={"require": {"ece": "<= 1", "agreement": ">= 0"}}, variants=["kd"])
    test = load_dataset(Data.model_validate(EXPERIMENT["data"])).read_test()
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


def test_a_refused_student_is_promoted_by_force_and_the_version_records_the_reason(run: Run) -> None:
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


def test_force_is_not_recorded_if_the_gate_agrees(run: Run) -> None:
    outcome = run(name="agreed")
    assert promote(outcome.parent_run_id, force="to be sure").already_champion
    rival = run(name="agreed", student=LONG, promote={"model": "none", "require": {"accuracy": ">= 0.999"}})
    ask_for(rival, model="agreed-student", require={})
    verdict = promote(rival.parent_run_id, force="to be sure")
    assert (verdict.promoted, verdict.forced) == (True, None)
    assert "kd.forced" not in tracking.versions("agreed-student")[0].tags


@pytest.mark.fault
def test_a_changed_test_split_is_reported(run: Run, tmp_path: Path) -> None:
    """The test split grows with its source. The champion is measured on the new split, and the verdict says so."""
    pool = load_dataset(Data(source="digits", validation=0.2))
    path, images, labels = tmp_path / "pool.npz", pool.train.images.numpy(), pool.train.labels.numpy()

    def grown(count: int, epochs: int) -> Outcome:
        np.savez(path, images=(images[:count] * 255).astype(np.uint8), labels=labels[:count])
        return run(name="grown", data={"source": str(path)}, student=EXPERIMENT["student"] | {"epochs": epochs})

    first, same, little, larger = grown(500, 15), grown(500, 16), grown(520, 17), grown(1_294, 25)
    assert first.verdict.promoted
    assert not same.verdict.evidence["test"]["changed"]
    assert larger.verdict.evidence["test"]["changed"]
    note = "The test split is not the one on which the champion, version 1 was promoted."
    assert [note in outcome.verdict.reason for outcome in (first, same, larger)] == [False, False, True]
    # A split that grew a little continues the count of looks. A split of mostly new images begins a new count.
    assert [look(outcome.verdict) for outcome in (same, little, larger)] == [1, 2, 1]
    assert larger.verdict.evidence["vs_champion"]["n"] > first.verdict.evidence["n"]  # the new split


@pytest.mark.fault
def test_two_promotions_at_once_run_one_after_the_other(run: Run) -> None:
    """Of two equally good students, one becomes the champion, and the other is compared with it."""
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
    verdicts.sort(key=lambda verdict: not verdict.promoted)  # The loser's flow may end first.
    assert [verdict.evidence["champion"] is None for verdict in verdicts] == [True, False]
    assert [(verdict.promoted, verdict.version) for verdict in verdicts] == [(True, 1), (False, 1)]
    message = "hard-labels does not replace the champion, version 1: it is neither significantly better ("
    assert verdicts[-1].reason.startswith(message)
    assert [version.aliases for version in tracking.versions("contested")] == [("champion",)]


@pytest.mark.fault
@pytest.mark.parametrize(
    ("model", "require", "force"),
    [("raced", {}, None), ("raced-by-force", {"accuracy": ">= 0.999"}, "the customer waits")],
)
def test_a_champion_that_changed_on_another_machine_is_not_replaced(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: str, require: dict[str, str], force: str | None
) -> None:
    """The lock of this machine does not stop others, which may set a champion between the gate and the registry."""
    other = student(run(name="elsewhere"), "hard-labels").run_id
    outcome = run(name=model, student=LONG, promote={"model": model, "require": {"accuracy": ">= 0.999"}})
    ask_for(outcome, require=require)

    def slow(*candidates: Any, **rules: Any) -> Verdict:
        verdict = decide(*candidates, **rules)
        tracking.set_champion(tracking.register(model, other, tags={}, description="of another machine"))
        return verdict

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "decide", slow)
        verdict = promote(outcome.parent_run_id, force=force)
    again = f"try again with: kd promote {student(outcome, 'hard-labels').run_id[:8]}"
    assert verdict.reason == f"the champion of {model} was changed in the meantime; {again}"
    assert (verdict.promoted, verdict.version, verdict.forced) == (False, 1, None)
    assert [(version.run_id, version.aliases) for version in tracking.versions(model)] == [(other, ("champion",))]
    tags = tracking.get(outcome.parent_run_id).tags
    assert (tags["kd.verdict"], tags["kd.promoted"]) == (verdict.reason, "False")
    verdict = promote(outcome.parent_run_id, force=force)
    assert (verdict.promoted, verdict.version, verdict.forced) == (True, 2, force)


@pytest.mark.fault
def test_a_promotion_waits_for_a_person(run: Run) -> None:
    rules = {"model": "reviewed", "approval": True}
    first = run(name="other", promote=rules).verdict
    assert (first.promoted, first.accepted, first.pending, first.version) == (False, True, 1, None)
    assert first.reason.startswith("reviewed version 1 waits for approval (kd approve reviewed, kd reject reviewed). ")
    assert approve("reviewed", "ada").aliases == ("champion",)

    better = run(name="other", promote=rules, student=LONG)
    assert (better.verdict.pending, better.verdict.version) == (2, 1)
    assert reject("reviewed", "ada", "too slow").tags["kd.review_reason"] == "too slow"
    again = run(name="other", promote=rules, student=LONG).verdict  # as in the next night
    assert (again.promoted, again.accepted, again.pending) == (False, False, None)
    assert "was rejected by a reviewer; to promote it again: kd promote" in again.reason
    assert promote(better.parent_run_id).pending == 2
