"""The decision of the gate on measurements made by hand."""

from dataclasses import replace

import pytest

from kdmodels.evaluation.looks import Look
from kdmodels.generators.comparison import PairedComparison
from kdmodels.generators.gate import Challenge, GeneratorCandidate, decide, reason_without_test

NEW = GeneratorCandidate("made", 12.0, -100.0)
OLD = GeneratorCandidate("the champion, version 1", 15.0, -104.0)
LOWER = PairedComparison(-3.0, -3.5, -2.5, 1e-6)
HIGHER = PairedComparison(4.0, 3.5, 4.5, 1e-6)
UNSURE = PairedComparison(-0.1, -0.5, 0.3, 0.3)
CHALLENGE = Challenge(OLD, LOWER, HIGHER, Look(1, 365))


def test_the_first_generator_becomes_the_champion() -> None:
    verdict = decide(NEW, None, 360)
    assert verdict.promoted
    assert verdict.reason == "made becomes the first champion: its training neither diverged nor collapsed."
    assert verdict.evidence == {"n": 360, "challenger": {"name": "made", "distance": 12.0, "elbo": -100.0}}


def test_a_generator_that_is_better_in_both_measures_replaces_the_champion() -> None:
    verdict = decide(NEW, CHALLENGE, 360)
    assert verdict.promoted
    assert verdict.reason == (
        "made replaces the champion, version 1: its Fréchet distance on 360 test images is lower (-3, 95% interval "
        "-3.5 to -2.5, one-sided p = 1.0e-06 at look 1 of 365 with level 0.015), and its ELBO is higher (+4 nats, 95% "
        "interval +3.5 to +4.5, one-sided p = 1.0e-06 at look 1 of 365 with level 0.015)."
    )
    assert verdict.evidence["look"] == {"number": 1, "of": 365, "level": Look(1, 365).level}


@pytest.mark.parametrize(
    ("challenge", "problems"),
    [
        (replace(CHALLENGE, distance=UNSURE), ["its Fréchet distance on 360 test images is not significantly lower"]),
        (replace(CHALLENGE, elbo=UNSURE), ["its ELBO on 360 test images is not significantly higher"]),
        (replace(CHALLENGE, distance=UNSURE, elbo=UNSURE), ["not significantly lower", "not significantly higher"]),
        (replace(CHALLENGE, look=Look(3, 2)), ["all 2 looks at this test split are spent"]),
    ],
)
def test_each_measure_must_be_better(challenge: Challenge, problems: list[str]) -> None:
    verdict = decide(NEW, challenge, 360)
    assert not verdict.promoted
    assert verdict.reason.startswith("made does not replace the champion, version 1: ")
    assert all(problem in verdict.reason for problem in problems)


def test_the_level_is_that_of_the_look() -> None:
    p = PairedComparison(-3.0, -5.9, -0.1, 0.01)
    assert decide(NEW, replace(CHALLENGE, distance=p), 360).promoted
    assert not decide(NEW, replace(CHALLENGE, distance=p, look=Look(2, 365)), 360).promoted


def test_a_generator_that_is_no_vae_needs_only_the_lower_distance() -> None:
    verdict = decide(replace(NEW, elbo=None), replace(CHALLENGE, elbo=None), 360)
    assert verdict.promoted
    assert "ELBO" not in verdict.reason


def test_collapse_and_missing_classes_need_no_test_split() -> None:
    assert reason_without_test("made", collapse=None, giving_up_classes=None) is None
    collapse = "mode collapse: nearly no image is of class 2"
    reason = reason_without_test("made", collapse=collapse, giving_up_classes=None)
    assert reason == f"made is not promoted: {collapse}."
    assert reason_without_test("made", collapse=None, giving_up_classes="the champion, version 1") == (
        "made does not replace the champion, version 1: it can't make images of a class, and the champion can."
    )
