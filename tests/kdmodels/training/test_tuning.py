"""The trials that a search proposes, and the choice of the best."""

import math

import torch

from kdmodels.experiment import Term
from kdmodels.experiment.tune import Axis
from kdmodels.training import Replica
from kdmodels.training.tuning import Trial, best, propose, results, seed_of_search, setting_of_trial

AXES = [Axis("lr", 1e-3, 1e-1, 0.01), Axis("soft_targets.weight", 0.1, 10.0, 1.0)]


def test_the_first_trial_has_the_values_of_the_file_even_outside_the_ranges() -> None:
    first, *_ = propose([Axis("lr", 1e-3, 1e-1, 7.0), AXES[1]], 3, seed=0)
    assert first == {"lr": 7.0, "soft_targets.weight": 1.0}


def test_trials_depend_on_the_seed_alone() -> None:
    torch.rand(1)
    assert propose(AXES, 6, seed=1) == propose(AXES, 6, seed=1)
    assert propose(AXES, 6, seed=1) != propose(AXES, 6, seed=2)
    assert propose(AXES, 4, seed=1) == propose(AXES, 6, seed=1)[:4]
    assert seed_of_search(1) == seed_of_search(1) != seed_of_search(2)


def test_trials_cover_every_axis_evenly_on_a_logarithmic_scale() -> None:
    points = propose(AXES, 65, seed=3)[1:]
    for axis in AXES:
        shares = [
            math.log(point[axis.name] / axis.low) / math.log(axis.high / axis.low) for point in points
        ]  # a Sobol sequence of 2^k points has one point in each of 2^k equal intervals
        assert sorted(int(share * 64) for share in shares) == list(range(64))


def test_a_trial_is_a_learning_rate_and_terms() -> None:
    setting = setting_of_trial({"lr": 0.3, "soft_targets.weight": 3.0}, [Term(loss="soft_targets", weight=2.0)])
    assert (setting.lr, setting.terms[0].weight) == (0.3, 6.0)


def test_the_best_trial_has_the_highest_accuracy_and_of_equal_ones_is_the_first() -> None:
    trials = [Trial({"lr": number}, accuracy) for number, accuracy in enumerate([None, 0.5, 0.7, 0.7])]
    assert best(trials).values == {"lr": 2}
    assert best([Trial({"lr": 1}, None), Trial({"lr": 2}, None)]).values == {"lr": 1}
    assert best([Trial({"lr": 1}, None), Trial({"lr": 2}, 0.0)]).values == {"lr": 2}


def test_a_diverged_trial_has_no_accuracy() -> None:
    history = [{"val/accuracy": 0.4}]
    fine, diverged = Replica(0, history, epoch=1), Replica(0, history, epoch=1, diverged=1)
    trials = results([{"lr": 1.0}, {"lr": 2.0}], [fine, diverged])
    assert trials == [Trial({"lr": 1.0}, 0.4), Trial({"lr": 2.0}, None)]
