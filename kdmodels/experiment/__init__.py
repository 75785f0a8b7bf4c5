"""The experiment file: its pydantic model, the loss catalogue, the presets and the YAML reader.

This package does not import torch.
"""

from kdmodels.experiment.data import Data
from kdmodels.experiment.experiment import Experiment, Promote, Runner, Schedule
from kdmodels.experiment.generator import GeneratorExperiment
from kdmodels.experiment.network import Network
from kdmodels.experiment.notify import Notify
from kdmodels.experiment.recipe import Recipe, Student, Teacher
from kdmodels.experiment.requirements import Require
from kdmodels.experiment.terms import Term
from kdmodels.experiment.variants import Variant

__all__ = [
    "Data",
    "Experiment",
    "GeneratorExperiment",
    "Network",
    "Notify",
    "Promote",
    "Recipe",
    "Require",
    "Runner",
    "Schedule",
    "Student",
    "Teacher",
    "Term",
    "Variant",
]
