"""The gate's decisions on vectors whose statistics are known by hand."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.gate import decide, decide_on_control
from kdmodels.evaluation.looks import Look
from kdmodels.experiment import Require

N = 1000
FREE = Require()
CLASSES = ("cat", "owl")


def candidate(name: str, wrong: range, parameters: int = 1000, file_bytes: int = 100_000, n: int = N) -> Candidate:
    """Return a model that is wrong on these examples only."""
    correct = np.ones(n, dtype=bool)
    correct[list(wrong)] = False
    return Candidate(name, correct, labels(n), CLASSES, parameters, file_bytes, 0.5)


def labels(n: int) -> np.ndarray:
    """Return labels: the last tenth of the examples are owls, the others are cats."""
    return np.repeat(["cat", "owl"], [n - n // 10, n // 10])


def test_a_first_champion_better_than_its_control() -> None:
    # b = 20, c = 0: p = 2 / 2^20.
    verdict = decide(candidate("kd", range(0)), candidate("hard-labels", range(20)), None, margin=0.002, require=FREE)
    assert verdict.promoted
    assert verdict.reason == (
        "kd becomes the first champion. No requirements are declared. It is better than the control hard-labels "
        "(+2.00 points on 1000 test examples, 95% interval +1.30 to +3.07, p < 0.001)."
    )
    assert verdict.evidence["vs_control"]["p_value"] == pytest.approx(2 / 2**20)
    assert verdict.evidence["vs_champion"] is None


def test_a_first_champion_not_significantly_different_from_its_control() -> None:
    # b = 5, c = 0: p = 2 / 2^5 = 0.0625, not below 0.05.
    verdict = decide(candidate("kd", range(0)), candidate("hard-labels", range(5)), None, margin=0.002, require=FREE)
    assert verdict.promoted
    assert "It is not significantly different from the control hard-labels (+0.50 points" in verdict.reason
    assert "p = 0.062" in verdict.reason


def test_a_first_champion_worse_than_its_control_is_refused() -> None:
    # b = 0, c = 20: p = 2 / 2^20.
    verdict = decide(candidate("kd", range(20)), candidate("hard-labels", range(0)), None, margin=0.002, require=FREE)
    assert (verdict.name, verdict.promoted, verdict.worse_than_control) == ("kd", False, True)
    assert verdict.reason == (
        "kd is refused: it is worse than the control hard-labels "
        "(-2.00 points on 1000 test examples, 95% interval -3.07 to -1.30, p < 0.001)."
    )


@pytest.mark.parametrize(("wrong", "refused"), [(5, False), (6, True)])
def test_a_difference_from_the_control_that_is_not_significant_refuses_nothing(wrong: int, refused: bool) -> None:
    # p = 2 / 2^5 = 0.0625 and 2 / 2^6 = 0.03125.
    control = candidate("hard-labels", range(0))
    verdict = decide(candidate("kd", range(wrong)), control, None, margin=0.002, require=FREE)
    assert (verdict.promoted, verdict.worse_than_control) == (not refused, refused)


def test_with_a_champion_the_control_does_not_decide() -> None:
    # 8 examples against the control: p = 2 / 2^8. 8 against 30 examples of the champion: p < 0.001.
    control, champion = candidate("hard-labels", range(0)), candidate("v1", range(20, 50))
    verdict = decide(candidate("kd", range(8)), control, champion, margin=0.002, require=FREE)
    assert (verdict.promoted, verdict.worse_than_control) == (True, False)


# 900 of the 1,000 examples are cats. P(X >= 916) = 0.0485 and P(X >= 915) = 0.0607 for X ~ Binomial(1000, 0.9).
@pytest.mark.parametrize(("wrong", "promoted"), [(84, True), (85, False)])
def test_a_first_champion_is_better_than_the_most_frequent_class(wrong: int, promoted: bool) -> None:
    verdict = decide(candidate("kd", range(wrong)), None, None, margin=0.002, require=FREE)
    expected = stats.binomtest(N - wrong, N, 0.9, alternative="greater").pvalue
    assert verdict.promoted == promoted == (expected < 0.05)
    assert verdict.evidence["vs_chance"] == {
        "correct": N - wrong, "n": N, "share": 0.9, "p_value": pytest.approx(expected)
    }  # fmt: skip
    if not promoted:
        assert verdict.reason == (
            "kd is refused: it is not significantly better than the most frequent class (91.50 % of 1000 examples are "
            f"correct, the most frequent class has 90.00 %, one-sided p = {expected:.3f})."
        )


def test_the_control_becomes_the_first_champion_instead() -> None:
    require = Require(parameters="<= 1000")
    control = candidate("hard-labels", range(0))
    refused = decide(candidate("kd", range(20)), control, None, margin=0.002, require=require)
    verdict = decide_on_control(refused, control, margin=0.002, require=require)
    assert (verdict.name, verdict.promoted) == ("hard-labels", True)
    assert verdict.reason == (
        "hard-labels becomes the first champion instead of kd. All requirements are met. kd is refused: it is worse "
        "than the control hard-labels (-2.00 points on 1000 test examples, 95% interval -3.07 to -1.30, p < 0.001)."
    )
    assert verdict.evidence["challenger"]["name"] == "hard-labels"
    assert verdict.evidence["instead_of"]["challenger"]["name"] == "kd"
    assert verdict.evidence["instead_of"]["vs_control"]["c"] == 20
    json.dumps(verdict.evidence)


def test_the_control_does_not_become_the_champion_if_it_misses_a_requirement() -> None:
    require = Require(latency_ms="<= 0.5")
    control = replace(candidate("hard-labels", range(0)), latency_ms=0.6)
    refused = decide(candidate("kd", range(20)), control, None, margin=0.002, require=require)
    verdict = decide_on_control(refused, control, margin=0.002, require=require)
    assert verdict == replace(refused, reason=verdict.reason)
    assert verdict.reason.endswith(
        "p < 0.001). The control is not promoted either: hard-labels is refused: the median time of one image in ms "
        "is 0.6, required <= 0.5."
    )


def test_the_first_champion_may_be_the_control() -> None:
    control = candidate("hard-labels", range(5))
    verdict = decide(control, control, None, margin=0.002, require=FREE)
    assert verdict.promoted
    assert verdict.reason == (
        "hard-labels becomes the first champion. No requirements are declared. "
        "No distilled variant beat the label-only control on validation."
    )
    assert verdict.evidence["vs_control"] is None


def test_a_first_champion_without_a_control() -> None:
    verdict = decide(candidate("kd", range(5)), None, None, margin=0.002, require=Require(parameters="<= 1000"))
    assert verdict.promoted
    assert verdict.reason == (
        "kd becomes the first champion. All requirements are met. There is no control to compare it with."
    )


def test_every_unmet_requirement_is_named_with_value_and_bound() -> None:
    require = Require(accuracy=">= 0.99", parameters="<= 999", file_mb="<= 0.05")
    verdict = decide(candidate("kd", range(10)), None, None, margin=0.002, require=require)
    assert not verdict.promoted
    # Wilson at 990 of 1000: (0.99 + z^2/2n - z sqrt(0.99 * 0.01 / n + z^2/4n^2)) / (1 + z^2/n) = 0.981691.
    assert verdict.reason == (
        "kd is refused: test accuracy's lower 95% bound is 0.981691, required >= 0.99; "
        "the number of parameters is 1000, required <= 999; "
        "the size of the weights' file in MB is 0.1, required <= 0.05."
    )
    assert [budget["holds"] for budget in verdict.evidence["budgets"]] == [False, False, False]


@pytest.mark.parametrize(
    ("require", "promoted"),
    [
        (Require(accuracy=">= 0.995"), True),  # all of 1000 right: lower bound n / (n + z^2) = 0.99617
        (Require(accuracy=">= 0.9962"), False),
        (Require(parameters="<= 1000"), True),
        (Require(parameters="<= 999"), False),
        (Require(file_mb="<= 0.1"), True),  # 10^6 bytes, not 2^20
        (Require(file_mb="<= 0.0999"), False),
        (Require(latency_ms="<= 0.5"), True),
        (Require(latency_ms="<= 0.499"), False),
        (Require(class_accuracy=">= 0.963"), True),  # 100 of 100 owls are right: 100 / (100 + z^2) = 0.96301
        (Require(class_accuracy=">= 0.9631"), False),
        (Require(ece="<= 0.25"), True),  # one bin: accuracy 1 and confidence 0.75, a gap of 0.25
        (Require(ece="<= 0.2499"), False),
        # Agrees with the teacher on 990 of 1000: Wilson's lower bound is 0.981691, as above.
        (Require(agreement=">= 0.98169"), True),
        (Require(agreement=">= 0.9817"), False),
    ],
)
def test_a_requirement_holds_at_its_bound(require: Require, promoted: bool) -> None:
    agrees = np.repeat([True, False], [N - 10, 10])
    measured = replace(candidate("kd", range(0)), confidences=np.full(N, 0.75), agrees=agrees)
    assert decide(measured, None, None, margin=0.002, require=require).promoted is promoted


def test_the_weakest_class_is_named() -> None:
    # 990 of 1000 right, but only 90 of 100 owls: Wilson's lower bound 0.825634.
    require = Require(accuracy=">= 0.95", class_accuracy=">= 0.85", latency_ms="<= 0.25")
    verdict = decide(candidate("kd", range(990, 1000)), None, None, margin=0.002, require=require)
    assert verdict.reason == (
        "kd is refused: the median time of one image in ms is 0.5, required <= 0.25; "
        "the lower 95% bound of its test accuracy on class 'owl' is 0.825634, required >= 0.85."
    )
    assert verdict.evidence["challenger"]["weakest_class"] == {"name": "owl", "accuracy": 0.9}
    assert verdict.evidence["challenger"]["latency_ms"] == 0.5


def test_of_two_equal_classes_the_one_with_fewer_examples_is_the_weaker() -> None:
    """9 of 10 prove less than 90 of 100: the lower bound decides, not the share."""
    correct = np.ones(110, dtype=bool)
    correct[[*range(10), 109]] = False
    few = Candidate("kd", correct, np.repeat(["many", "few"], [100, 10]), ("many", "few"), 1, 1, 1.0)
    verdict = decide(few, None, None, margin=0.002, require=Require(class_accuracy=">= 0.8"))
    # Wilson at 9 of 10: (0.9 + z^2/20 - z sqrt(0.9 * 0.1 / 10 + z^2/400)) / (1 + z^2/10) = 0.595850.
    assert "on class 'few' is 0.59585, required >= 0.8" in verdict.reason


def test_an_unmet_requirement_refuses_even_a_better_model() -> None:
    better, champion = candidate("kd", range(0)), candidate("v1", range(50))
    assert not decide(better, None, champion, margin=0.002, require=Require(parameters="<= 10")).promoted


def test_a_better_model_replaces_the_champion_even_if_it_is_bigger() -> None:
    # b = 5, c = 0: the one-sided p = 1 / 2^5 = 0.03125.
    challenger = candidate("kd", range(0), parameters=9000)
    verdict = decide(challenger, None, candidate("v1", range(5)), margin=0.002, require=FREE)
    assert verdict.promoted
    assert verdict.reason.startswith("kd replaces v1: it is better (+0.50 points")
    assert "one-sided p = 0.031). This was look 1 of 1 at this test split, level 5 %." in verdict.reason


def test_a_higher_accuracy_that_is_not_significant_is_refused() -> None:
    # b = 4, c = 0: the one-sided p = 1 / 2^4 = 0.0625.
    verdict = decide(candidate("kd", range(0)), None, candidate("v1", range(4)), margin=0.002, require=FREE)
    assert not verdict.promoted
    assert verdict.reason.startswith("kd does not replace v1: it is neither significantly better (+0.40 points")
    assert "nor smaller (1,000 parameters against 1,000). This was look 1 of 1" in verdict.reason


def test_a_worse_model_is_refused_even_if_it_is_smaller() -> None:
    challenger = candidate("kd", range(30), parameters=10)
    verdict = decide(challenger, None, candidate("v1", range(0)), margin=0.002, require=FREE)
    assert not verdict.promoted
    assert verdict.reason.startswith("kd does not replace v1: it is worse (-3.00 points")


def test_a_smaller_model_replaces_the_champion_if_the_margin_is_shown() -> None:
    # Both are right everywhere. The one-sided bound is -z^2 / (n + z^2) = -0.0027 with z = 1.645.
    small, champion = candidate("kd", range(0), parameters=500), candidate("v1", range(0))
    verdict = decide(small, None, champion, margin=0.003, require=FREE)
    assert verdict.promoted
    assert verdict.reason.startswith("kd replaces v1: it is smaller (500 parameters against 1,000) and not worse")
    assert "by more than the margin of 0.30 points" in verdict.reason
    assert verdict.evidence["vs_champion"]["lower_bound"] == pytest.approx(-0.002698, abs=1e-6)


def test_a_smaller_model_may_be_worse_within_the_margin() -> None:
    """10 of 1,000 examples lost is significant, but less than the margin of 5 points."""
    small = candidate("kd", range(10), parameters=500)
    verdict = decide(small, None, candidate("v1", range(0)), margin=0.05, require=FREE)
    assert verdict.promoted
    assert verdict.evidence["vs_champion"]["p_value"] < 0.05


def test_a_smaller_model_is_refused_if_the_data_cannot_show_the_margin() -> None:
    small, champion = candidate("kd", range(0), parameters=500), candidate("v1", range(0))
    verdict = decide(small, None, champion, margin=0.002, require=FREE)
    assert not verdict.promoted
    assert "it is smaller (500 parameters against 1,000), but may be worse by more than the margin" in verdict.reason
    assert "one-sided bound at this look's level -0.27" in verdict.reason


@pytest.mark.parametrize(("look", "least"), [(Look(1, 365), "1.28"), (Look(30, 365), "3.78")])
def test_the_reason_says_which_margin_the_test_examples_can_show(look: Look, least: str) -> None:
    """The bound of two models that always agree is -z^2 / (n + z^2), where z is the quantile of the look's level."""
    small, champion = candidate("kd", range(3), parameters=500, n=360), candidate("v1", range(0), n=360)
    reason = decide(small, None, champion, margin=0.002, require=FREE, look=look).reason
    assert reason.endswith(
        f" Even two models that agree on all 360 test examples would show no margin below {least} points at this look."
    )
    assert "Even two models" not in decide(small, None, champion, margin=0.04, require=FREE, look=look).reason


def test_a_smaller_file_with_equal_parameters_is_not_smaller() -> None:
    challenger = candidate("kd", range(0), file_bytes=1)
    assert not decide(challenger, None, candidate("v1", range(0)), margin=0.5, require=FREE).promoted


def test_evidence_holds_every_number_and_is_json() -> None:
    require = Require(accuracy=">= 0.5", parameters="<= 2000", file_mb="<= 1.5")
    verdict = decide(
        candidate("kd", range(3)),
        candidate("hard-labels", range(10, 20)),
        candidate("v1", range(2, 8)),
        margin=0.002,
        require=require,
    )
    evidence = json.loads(json.dumps(asdict(verdict)))["evidence"]
    assert (evidence["n"], evidence["alpha"], evidence["margin"]) == (N, 0.05, 0.002)
    assert evidence["challenger"]["accuracy"] == pytest.approx(0.997)
    low, high = evidence["challenger"]["accuracy_interval"]
    assert low < 0.997 < high
    assert [evidence[side]["name"] for side in ("control", "champion")] == ["hard-labels", "v1"]
    assert (evidence["vs_control"]["b"], evidence["vs_control"]["c"]) == (10, 3)
    assert (evidence["vs_champion"]["b"], evidence["vs_champion"]["c"]) == (5, 2)  # 2 is wrong for both
    assert evidence["vs_champion"]["difference"] == pytest.approx(0.003)
    assert evidence["vs_champion"]["interval"][0] < evidence["vs_champion"]["lower_bound"] < 0.003
    assert [(budget["bound"], budget["holds"]) for budget in evidence["budgets"]] == [
        (">= 0.5", True),
        ("<= 2000", True),
        ("<= 1.5", True),
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: decide(candidate("a", range(0)), candidate("b", range(0), n=N - 1), None, margin=0, require=FREE),
        lambda: decide(candidate("a", range(0)), None, candidate("b", range(0), n=N + 1), margin=0, require=FREE),
        lambda: Candidate("a", np.zeros(0, dtype=bool), labels(0), CLASSES, 1, 1, 1.0),
        lambda: Candidate("a", np.zeros(5), labels(5), CLASSES, 1, 1, 1.0),
        lambda: Candidate("a", np.zeros(5, dtype=bool), labels(4), CLASSES, 1, 1, 1.0),
    ],
)
def test_vectors_of_different_examples_are_an_error(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"not the same examples|boolean vector|expected \(5,\) labels"):
        make()


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.floats(0, 0.05))
def test_two_models_never_replace_each_other_for_accuracy(
    first: int, second: int, start: int, gap: int, margin: float
) -> None:
    a = candidate("a", range(start, start + first))
    b = candidate("b", range(start + gap, start + gap + second))
    there, back = (decide(x, None, y, margin=margin, require=FREE).promoted for x, y in ((a, b), (b, a)))
    assert not (there and back)


def test_the_level_of_a_look_decides() -> None:
    """b = 10, c = 0: the one-sided p is 1 / 2^10 = 0.00098, between the levels of look 10 and look 2."""
    pair = candidate("kd", range(0)), None, candidate("v1", range(10))
    assert decide(*pair, margin=0.002, require=FREE, look=Look(2, 365)).promoted
    verdict = decide(*pair, margin=0.002, require=FREE, look=Look(10, 365))
    assert not verdict.promoted
    assert verdict.reason.endswith("This was look 10 of 365 at this test split, level 0.022 %.")
    assert verdict.evidence["look"] == {"number": 10, "of": 365, "level": Look(10, 365).level}


def test_the_level_of_a_look_applies_to_the_margin_too() -> None:
    """Both are right everywhere. The one-sided bound is -z^2 / (n + z^2), -0.0046 at look 1 and -0.0140 at look 30."""
    small, champion = candidate("kd", range(0), parameters=500), candidate("v1", range(0))
    decided = [decide(small, None, champion, margin=0.01, require=FREE, look=Look(k, 365)).promoted for k in (1, 30)]
    assert decided == [True, False]


def test_after_the_last_look_nothing_is_promoted_and_the_verdict_says_what_to_do() -> None:
    verdict = decide(
        candidate("kd", range(0)), None, candidate("v1", range(500)), margin=0.5, require=FREE, look=Look(4, 3)
    )
    assert not verdict.promoted
    assert "all 3 looks at this test split are spent" in verdict.reason
    assert verdict.reason.endswith("Allowed: new test images, or kd promote --force --reason TEXT.")


def test_a_smaller_challenger_that_is_also_better_is_called_better() -> None:
    small = candidate("kd", range(0), parameters=500)
    verdict = decide(small, None, candidate("v1", range(20)), margin=0.002, require=FREE)
    assert verdict.promoted
    assert "it is smaller (500 parameters against 1,000) and it is better (+2.00 points" in verdict.reason


def test_a_class_without_test_examples_does_not_meet_class_accuracy() -> None:
    unknown = replace(candidate("kd", range(0)), classes=("cat", "dog", "owl"))
    verdict = decide(unknown, None, None, margin=0.002, require=Require(class_accuracy=">= 0"))
    assert not verdict.promoted
    assert verdict.reason == (
        "kd is refused: no test example of class 'dog', but class_accuracy >= 0 is required of every class."
    )


def test_a_champion_that_lacks_a_class_is_compared_on_the_other_classes() -> None:
    """The 100 owls are a new class. The champion is wrong on all of them, so they are left out."""
    owls = range(N - 100, N)
    champion = replace(candidate("v1", owls), classes=("cat",))
    good = decide(candidate("kd", range(0)), None, champion, margin=0.01, require=FREE)
    assert good.promoted
    assert "it knows more classes ('owl', left out of the comparison) and not worse by more than" in good.reason
    assert (good.evidence["vs_champion"]["n"], good.evidence["vs_champion"]["b"]) == (900, 0)
    bad = decide(candidate("kd", range(40)), None, champion, margin=0.01, require=FREE)  # is wrong on 40 cats
    assert not bad.promoted
    assert "it is worse (-4.44 points on 900 test examples" in bad.reason


def test_without_an_example_of_a_shared_class_nothing_is_promoted() -> None:
    champion = replace(candidate("v1", range(N)), classes=("dog",))
    verdict = decide(candidate("kd", range(0)), None, champion, margin=0.5, require=FREE)
    assert not verdict.promoted
    assert verdict.reason == "kd does not replace v1: no test example is of a class that both know."
