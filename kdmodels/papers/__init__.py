"""Published results that `kd reproduce` tests. Each module in `_MODULES` defines one reproduction."""

from kdmodels.errors import UsageError, allowed
from kdmodels.papers import (
    ba_caruana_mnist,
    cifar_tutorial,
    hinton_mnist,
    hinton_temperatures,
    hw13_cifar10,
    mnist_transfer,
    notes_gradient,
    soft_feature_combined,
)
from kdmodels.papers.reproduction import Reproduction

_MODULES = (
    notes_gradient,
    hinton_mnist,
    hinton_temperatures,
    ba_caruana_mnist,
    soft_feature_combined,
    mnist_transfer,
    cifar_tutorial,
    hw13_cifar10,
)
REPRODUCTIONS: dict[str, Reproduction] = {module.REPRODUCTION.name: module.REPRODUCTION for module in _MODULES}
"""All reproductions, by name. To add a reproduction, add its module to `_MODULES`."""


def find_reproduction(name: str) -> Reproduction:
    """Return a reproduction by its name.

    Raises:
        UsageError: There is no reproduction with this name.
    """
    if name not in REPRODUCTIONS:
        raise UsageError(f"{name}: unknown reproduction. {allowed(name, REPRODUCTIONS)}")
    return REPRODUCTIONS[name]
