"""Training: one recipe, any objective, several seeds at once."""

from kdmodels.training.checkpoints import Checkpoints
from kdmodels.training.distiller import Distiller
from kdmodels.training.fit import fit
from kdmodels.training.replica import Replica

__all__ = ["Checkpoints", "Distiller", "Replica", "fit"]
