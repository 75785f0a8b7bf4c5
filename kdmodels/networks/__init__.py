"""Networks: built from their description, tapped, and stored without pickle.

Every network takes float32 images (N, C, H, W) in [0, 1]; its normalisation is its first layer.
"""

from kdmodels.networks.budget import within_budget
from kdmodels.networks.build import build, parameters
from kdmodels.networks.initialise import initialise
from kdmodels.networks.source import source_digest
from kdmodels.networks.storage import Description, load_network, read_state, save_network
from kdmodels.networks.taps import Tap, find_tap

__all__ = [
    "Description", "Tap", "build", "find_tap", "initialise", "load_network", "parameters", "read_state", "save_network",
    "source_digest", "within_budget",
]  # fmt: skip
