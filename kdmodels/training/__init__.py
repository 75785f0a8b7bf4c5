"""Training of networks.

A recipe holds the hyperparameters of the training. An objective is the loss that the training minimises. A replica is a
network that is trained with one seed.
"""

from kdmodels.training.calibration import Calibration
from kdmodels.training.checkpoints import Checkpoints
from kdmodels.training.distiller import Distiller
from kdmodels.training.fit import fit
from kdmodels.training.replica import Replica
from kdmodels.training.setting import Setting

__all__ = ["Calibration", "Checkpoints", "Distiller", "Replica", "Setting", "fit"]
