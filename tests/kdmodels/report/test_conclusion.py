"""The conclusion in words, for each way in which a comparison can end."""

from dataclasses import replace

import pytest

from kdmodels.evaluation.significance import Evidence
from kdmodels.experiment.metrics import Metric
from kdmodels.report.conclusion import conclusion
from kdmodels.report.leaderboard import Costs, LeaderboardRow
from tests.support.students import student

NO_INTERVAL = {"control_difference_low": None, "control_difference_high": None}


def line(
    variant: str, rank: int | None, group: int | None, control: str | None = "hard-labels", **evidence: float | None
) -> LeaderboardRow:
    figures = {"control_difference": 0.012, "control_difference_low": 0.004, "control_difference_high": 0.02}
    figures |= {"control_p_holm": 0.01, "control_p_mcnemar": 0.02}
    if variant == "hard-labels":
        figures = {}
    values = Evidence(group=group, **figures | evidence)
    return LeaderboardRow(student(variant, [0.9], control=control), Costs(None), values, rank)


def test_a_significant_lead_is_stated_with_its_interval_and_the_variants_that_may_be_as_good() -> None:
    lines = [line("kd", 1, 1), line("dkd", 2, 1), line("hint", 3, 1), line("hard-labels", 4, 2)]
    assert conclusion(lines) == (
        "kd is better than hard-labels by 1.20 points on the validation images "
        "(95 % interval over seeds 0.40 to 2.00). dkd, hint are not significantly different from kd."
    )


def test_significantly_worse_and_untested_variants_are_named() -> None:
    lines = [line("kd", 1, 1), line("dkd", 2, 1), line("hint", 3, 2), line("crd", 4, 3), line("old", 5, None)]
    lines.append(line("hard-labels", 6, 3))
    assert conclusion(lines).split(". ")[1:] == [
        "dkd is not significantly different from kd",
        "Significantly worse than kd: hint, crd",
        "Not tested (other seeds or examples): old.",
    ]


def test_a_lead_that_is_not_significant_is_said_to_be_none() -> None:
    lines = [line("kd", 1, 1, **NO_INTERVAL, control_p_holm=0.06), line("hard-labels", 2, 1)]
    assert (
        conclusion(lines)
        == "kd is ahead of hard-labels by 1.20 points on the validation images, but not significantly."
    )
    lines[0] = line("kd", 1, 1, control_p=0.03, control_p_holm=0.06)
    assert conclusion(lines) == (
        "kd is ahead of hard-labels by 1.20 points on the validation images (95 % interval over seeds 0.40 to 2.00), "
        "but not significantly after Holm's correction."
    )
    lines.insert(1, line("dkd", 2, 1))
    assert conclusion(lines).endswith("None of the other 2 variants differs significantly from the best.")


def test_a_lead_that_few_examples_do_not_confirm_is_said_to_be_uncertain() -> None:
    lines = [line("kd", 1, 1, **NO_INTERVAL, control_p_mcnemar=0.0512), line("hard-labels", 2, 1)]
    assert conclusion(lines) == (
        "kd is better than hard-labels by 1.20 points on the validation images, but other images may show no lead: "
        "over images, the difference is not significant (p = 0.051)."
    )
    lines[0] = line("kd", 1, 1, **NO_INTERVAL, control_p_mcnemar=None)
    assert conclusion(lines) == "kd is better than hard-labels by 1.20 points on the validation images."


def test_one_seed_per_variant_shows_no_difference() -> None:
    untested = {"control_p_holm": None, "control_p_mcnemar": None}
    lines = [line("kd", 1, 1, **NO_INTERVAL, **untested), line("hard-labels", 2, None)]
    assert conclusion(lines) == (
        "kd is ahead of hard-labels by 1.20 points on the validation images. "
        "The differences were not tested: a test needs the same 2 or more seeds for each variant."
    )


def test_a_control_in_the_first_place_is_named_as_the_control() -> None:
    lines = [line("hard-labels", 1, 1), line("kd", 2, 1), line("hint", 3, 2)]
    assert conclusion(lines) == (
        "hard-labels, the control, has the highest validation accuracy: no distilled variant did better. "
        "kd is not significantly different from hard-labels. Significantly worse than hard-labels: hint."
    )


@pytest.mark.parametrize("control", ["hard-labels", None])
def test_a_best_variant_without_a_finished_control_is_compared_with_the_others_only(control: str | None) -> None:
    lines = [line("kd", 1, 1, control=control), line("dkd", 2, 1), line("hard-labels", None, None)]
    assert conclusion(lines) == (
        "kd has the highest validation accuracy. It is not compared with a control. "
        "dkd is not significantly different from kd."
    )


def test_fewer_than_two_finished_variants() -> None:
    assert conclusion([line("kd", 1, 1), line("dkd", None, None)]) == "kd is the only variant that finished."
    assert conclusion([line("kd", None, None)]) == "No student finished."


def test_a_metric_that_ranks_the_variants_is_named_and_not_tested() -> None:
    f1 = Metric(name="macro_f1")
    lines = [
        replace(each, student=each.student.model_copy(update={"rank_by": f1, "scores": {f1.name: values}}))
        for each, values in (
            (line("kd", 1, 1), [0.8, 0.9]),
            (line("hint", 2, 2), [0.7, 0.7]),
            (line("hard-labels", 3, 2), [0.5, 0.6]),
        )
    ]
    assert conclusion(lines) == (
        "kd has the best macro_f1, 0.85 ± 0.071; hard-labels, its control, has 0.55 ± 0.071. The tests compare "
        "accuracies: +1.20 (0.40 to 2.00) points against the control, p (Holm) 0.010."
    )
    assert conclusion([lines[2], lines[0]]) == (
        "hard-labels has the best macro_f1, 0.55 ± 0.071. It is the control: no distilled variant did better."
    )
