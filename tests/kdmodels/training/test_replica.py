"""The result of training one seed."""

from kdmodels.training import Replica


def test_figures_are_those_of_the_epoch_whose_weights_are_kept() -> None:
    replica = Replica(0, history=[{"val/accuracy": 0.5}, {"val/accuracy": 0.75}, {"val/accuracy": 0.25}], epoch=2)
    assert replica.figures == {"val/accuracy": 0.75}
