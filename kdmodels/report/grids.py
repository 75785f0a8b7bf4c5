"""The hyperparameters in which the variants of one grid differ."""

from collections.abc import Mapping, Sequence

from kdmodels.experiment import Variant
from kdmodels.experiment.terms import Calibrated


def varied(variants: Sequence[Variant]) -> dict[str, dict[str, float]]:
    """Return each variant's values of the hyperparameters that differ between the variants of a grid.

    Args:
        variants: The variants of one grid.

    Returns:
        One mapping per variant, by the name of the variant. A mapping holds the variant's values by the name of the
        hyperparameter, e.g. `soft_targets.temperature` or `soft_targets.weight`. Only numbers are included.
    """
    values = {variant.name: _numbers(variant) for variant in variants}
    names = {name for of_variant in values.values() for name in of_variant}
    differing = sorted(name for name in names if len({of_variant.get(name) for of_variant in values.values()}) > 1)
    return {
        variant: {name: of_variant[name] for name in differing if name in of_variant}
        for variant, of_variant in values.items()
    }


def _numbers(variant: Variant) -> Mapping[str, float]:
    numbers: dict[str, float] = {}
    for term in variant.terms:
        if isinstance(term.weight, Calibrated):
            numbers[f"{term.loss}.auto"] = term.weight.auto
        else:
            numbers[f"{term.loss}.weight"] = term.weight
        for name, value in term.hyperparameters.items():
            if isinstance(value, int | float):
                numbers[f"{term.loss}.{name}"] = float(value)
    return numbers
