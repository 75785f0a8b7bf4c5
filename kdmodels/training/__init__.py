"""Training: one recipe, any objective, several seeds at once."""

from kdmodels.training.distiller import Distiller
from kdmodels.training.fit import Replica, fit

__all__ = ["Distiller", "Replica", "fit"]
