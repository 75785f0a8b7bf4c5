"""The hyperparameters that differ between the variants of a grid."""

from kdmodels.experiment.variants import Variant
from kdmodels.report.grids import varied


def variant(name: str, terms: list[object]) -> Variant:
    return Variant.model_validate({"name": name, "terms": terms})


def test_only_the_values_that_differ_are_returned() -> None:
    first = variant("a", [{"hard_labels": 0.1}, {"soft_targets": {"weight": 0.9, "temperature": 2}}])
    second = variant("b", [{"hard_labels": 0.1}, {"soft_targets": {"weight": 0.9, "temperature": 4}}])
    assert varied([first, second]) == {"a": {"soft_targets.temperature": 2.0}, "b": {"soft_targets.temperature": 4.0}}


def test_weights_and_ratios_of_calibrated_weights_can_differ() -> None:
    first, second = variant("a", [{"hint": {"auto": 0.5}}]), variant("b", [{"hint": 2}])
    assert varied([first, second]) == {"a": {"hint.auto": 0.5}, "b": {"hint.weight": 2.0}}


def test_a_single_variant_has_no_difference() -> None:
    assert varied([variant("a", ["hard_labels"])]) == {"a": {}}
