"""Training of networks. The recipe sets the hyperparameters of a training. The objective is the loss that is minimised.

A replica is a network trained with one seed.
"""

from kdmodels.training.calibration import Calibration
from kdmodels.training.checkpoints import Checkpoints
from kdmodels.training.distiller import Distiller
from kdmodels.training.fit import fit
from kdmodels.training.replica import Replica
from kdmodels.training.setting import Setting

__all__ = ["Calibration", "Checkpoints", "Distiller", "Replica", "Setting", "fit"]
