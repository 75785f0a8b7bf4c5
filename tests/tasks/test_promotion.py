"""The decision about a promotion, on measurements made by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.looks import Look
from kdmodels.experiment import Promote
from tasks.held_out import Outcomes
from tasks.promotion import (
    Examples,
    Judgement,
    Measurements,
    PromoteOptions,
    Request,
    Settlement,
    SplitRecord,
    judge,
    judged_examples,
    reason_of_missing_classes,
)
from tasks.references import LeaderboardReference, StudentReference
from tasks.tracking import Version

N = 1000
CHAMPION = Version(model="m", version=1, run_id="old", uri="models:/m/1", aliases=("champion",), tags={})
STUDENTS = [
    StudentReference(
        variant=name, run_id=f"run-{name}", status="FINISHED", reused=False, seeds=[0], metrics={}, per_seed={},
        parameters=10,
    )
    for name in ("hard-labels", "kd")
]  # fmt: skip


def request(champion: Version | None = None, rules: dict[str, Any] | None = None, **options: Any) -> Request:
    leaderboard = LeaderboardReference(parent_run_id="p", teacher_run_id=None, students=STUDENTS, winner="kd")
    return Request(leaderboard, Promote(model="m", **rules or {}), champion, PromoteOptions(**options))


def candidate(name: str, wrong: int) -> Candidate:
    correct = np.arange(N) >= wrong
    return Candidate(name, correct, np.repeat(["cat", "owl"], N // 2), ("cat", "owl"), 1000, 1, 1.0)


def measured(wrong: int = 0, rival: int | None = None, examples: Examples | None = None, **split: Any) -> Measurements:
    """Return measurements of a winner, its control with 10 wrong examples, and perhaps a rival."""
    candidates = {"kd": candidate("kd", wrong), "hard-labels": candidate("hard-labels", 10)}
    opponent = None if rival is None else candidate("the champion, version 1", rival)
    facts = {"digest": "d", "changed": False, "reads": 1, "copies": 0} | split
    kept = examples or Examples(np.ones(N, dtype=bool))
    return Measurements(candidates, opponent, Look(1, 365) if opponent else None, kept, SplitRecord(**facts))


def outcomes(seen: list[int] | None, n: int = N) -> Outcomes:
    flags = None if seen is None else np.isin(np.arange(n), seen)
    return Outcomes(np.zeros(n, dtype=int), np.zeros(n, dtype=int), np.ones(n), flags)


def test_the_first_champion_is_promoted_by_the_gate() -> None:
    judgement = judge(request(), Settlement(), measured())
    assert (judgement.verdict.promoted, judgement.accepted, judgement.forced) == (True, True, None)
    assert judgement.verdict.evidence["test"] == {"digest": "d", "changed": False, "reads": 1, "copies": 0}


def test_the_control_is_promoted_instead_of_a_winner_that_is_worse() -> None:
    judgement = judge(request(), Settlement(), measured(wrong=40))
    assert (judgement.verdict.name, judgement.verdict.promoted, judgement.accepted) == ("hard-labels", True, True)
    assert judgement.verdict.reason.startswith("hard-labels becomes the first champion instead of kd.")
    assert request().for_student("hard-labels").run_id == "run-hard-labels"


def test_the_control_is_not_promoted_instead_of_a_student_that_the_user_chose() -> None:
    by_name = judge(request(by_name=True), Settlement(), measured(wrong=40))
    assert (by_name.verdict.name, by_name.verdict.promoted, by_name.accepted) == ("kd", False, False)
    assert by_name.verdict.reason.startswith("kd is refused: it is worse than the control hard-labels")
    forced = judge(request(force="a demo"), Settlement(), measured(wrong=40))
    assert (forced.verdict.name, forced.verdict.promoted, forced.forced) == ("kd", True, "a demo")


def test_the_control_is_not_promoted_if_too_few_examples_remain() -> None:
    examples = Examples(np.ones(N, dtype=bool), copies=950, refusal="too few")
    judgement = judge(request(), Settlement(), measured(wrong=40, examples=examples))
    assert (judgement.verdict.name, judgement.verdict.promoted) == ("kd", False)


def test_a_champion_stays_accepted_even_if_it_is_worse_than_its_control() -> None:
    champion = replace(CHAMPION, run_id="run-kd")
    judgement = judge(request(champion), Settlement("already champion: kd"), measured(wrong=40))
    assert (judgement.verdict.promoted, judgement.accepted) == (False, True)


def test_a_settled_request_is_not_promoted_even_if_the_gate_would() -> None:
    judgement = judge(request(CHAMPION), Settlement("kd was rolled back"), measured())
    assert judgement == Judgement(judgement.verdict, accepted=False)
    assert (judgement.verdict.promoted, judgement.verdict.reason) == (False, "kd was rolled back")


@pytest.mark.parametrize(("bound", "accepted"), [(">= 0.99", True), (">= 0.999", False)])
def test_the_champion_is_accepted_again_if_it_meets_the_requirements(bound: str, accepted: bool) -> None:
    champion = replace(CHAMPION, run_id="run-kd")
    judgement = judge(
        request(champion, {"require": {"accuracy": bound}}), Settlement("already champion: kd"), measured()
    )
    assert (judgement.verdict.promoted, judgement.accepted) == (False, accepted)
    assert ("does not meet the requirements" in judgement.verdict.reason) is not accepted


def test_force_promotes_a_refused_student_and_keeps_what_the_gate_said() -> None:
    forced = judge(request(CHAMPION, force="a demo"), Settlement(rival=CHAMPION), measured(wrong=50, rival=0))
    assert (forced.verdict.promoted, forced.accepted, forced.forced) == (True, True, "a demo")
    assert forced.verdict.reason.startswith("kd is promoted by force: a demo. The gate said: kd does not replace")
    unneeded = judge(request(CHAMPION, force="a demo"), Settlement(rival=CHAMPION), measured(rival=50))
    assert (unneeded.verdict.promoted, unneeded.forced) == (True, None)


def test_the_reason_names_another_test_split_and_other_looks() -> None:
    judgement = judge(request(CHAMPION, {"looks": 7}), Settlement(rival=CHAMPION), measured(rival=50, changed=True))
    assert judgement.verdict.reason.endswith(
        " The test split is not the one on which the champion, version 1 was promoted."
        " promote.looks is now 7, but this test split keeps its first value, 365."
    )


def test_too_few_examples_refuse() -> None:
    examples = Examples(np.ones(N, dtype=bool), copies=950, refusal="too few")
    assert judge(request(), Settlement(), measured(examples=examples)).verdict.reason == "too few"


def test_copies_of_images_that_a_model_was_trained_on_are_left_out() -> None:
    examples = judged_examples("kd", outcomes([0, 1]), "v1", outcomes([1, 2]))
    assert (examples.copies, examples.refusal) == (3, None)
    assert np.flatnonzero(~examples.kept).tolist() == [0, 1, 2]
    assert examples.note == (
        " 3 of 1000 test images were left out: they are copies of images that kd or v1 was trained or validated on."
    )
    unknown = judged_examples("kd", outcomes([]), "v1", outcomes(None))
    assert unknown.kept.all()
    assert unknown.note == " It is not known whether v1 was trained on some of the test images."


@pytest.mark.parametrize(
    ("n", "copies", "enough"), [(1000, 900, True), (1000, 901, False), (10, 5, True), (10, 6, False)]
)
def test_half_of_a_small_test_split_or_100_examples_have_to_remain(n: int, copies: int, enough: bool) -> None:
    examples = judged_examples("kd", outcomes(list(range(copies)), n), "", None)
    assert (examples.refusal is None) is enough
    if not enough:
        assert examples.kept.all()
        assert f"the other {n - copies} are too few" in examples.refusal


def test_a_champion_that_knows_classes_which_the_data_lack_is_not_replaced() -> None:
    assert reason_of_missing_classes("kd", "v1", ["cat"], ["cat", "owl"]) is None
    reason = reason_of_missing_classes("kd", "v1", ["cat", "dog"], ["cat", "owl"])
    assert reason.startswith("kd does not replace v1: the champion knows classes that the data do not have ('dog')")
    assert "does not know ('owl')" in reason
