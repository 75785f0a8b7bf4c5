"""Requirements: which are met, and how unmet requirements are worded."""

from dataclasses import replace

import numpy as np
import pytest

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.requirements import Rule, check_requirements, unmet_requirements
from kdmodels.experiment import Require

CANDIDATE = Candidate("kd", np.ones(10, dtype=bool), np.full(10, "cat"), ("cat", "owl"), 1000, 100_000, 0.5)


def test_only_declared_requirements_are_checked() -> None:
    assert check_requirements(CANDIDATE, Require()) == []
    rules = check_requirements(CANDIDATE, Require(parameters="<= 999", file_mb="<= 0.1"))
    assert rules == [Rule("parameters", 1000, "<= 999", False), Rule("file_mb", 0.1, "<= 0.1", True)]
    assert unmet_requirements(rules) == "the number of parameters is 1000, required <= 999"


def test_a_class_without_test_examples_is_named() -> None:
    unmet = unmet_requirements(check_requirements(CANDIDATE, Require(class_accuracy=">= 0")))
    assert unmet == "no test example of class 'owl', but class_accuracy >= 0 is required of every class"


def test_a_required_value_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="ece is required of kd, and was not measured"):
        check_requirements(CANDIDATE, Require(ece="<= 0.1"))


def test_metrics_of_the_experiment_can_be_required() -> None:
    measured = replace(CANDIDATE, metrics={"macro_f1": 0.8, "mymetrics:cost": 2.5})
    rules = check_requirements(measured, Require(metrics={"macro_f1": ">= 0.8", "mymetrics:cost": "<= 2"}))
    assert rules == [Rule("macro_f1", 0.8, ">= 0.8", True), Rule("mymetrics:cost", 2.5, "<= 2", False)]
    assert unmet_requirements(rules) == "mymetrics:cost on test is 2.5, required <= 2"
    with pytest.raises(ValueError, match="auroc is required of kd, and was not measured"):
        check_requirements(measured, Require(metrics={"auroc": ">= 0.8"}))
