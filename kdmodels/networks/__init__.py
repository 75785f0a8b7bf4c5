"""Networks, which are built from a description and stored without pickle.

Every network takes float32 images (N, C, H, W) in [0, 1]. First, the network resizes the images if it needs another
size, and normalises them.
"""

from kdmodels.networks.budget import within_budget
from kdmodels.networks.build import build, parameters
from kdmodels.networks.checkpoint import load_checkpoint, load_state
from kdmodels.networks.ensemble import Ensemble
from kdmodels.networks.initialise import initialise
from kdmodels.networks.libraries import replaced_head
from kdmodels.networks.source import sources, sources_of_code
from kdmodels.networks.storage import (
    Description,
    buildable_description,
    load_network,
    read_description,
    save_network,
)
from kdmodels.networks.taps import Tap, find_tap

__all__ = [
    "Description", "Ensemble", "Tap", "build", "buildable_description", "find_tap", "initialise", "load_checkpoint",
    "load_network", "load_state", "parameters",
    "read_description", "replaced_head", "save_network", "sources", "sources_of_code",
    "within_budget",
]  # fmt: skip
