"""A check of the files and modules that an experiment names."""

import os
from pathlib import Path

from kdmodels.experiment.data import NAMED, PATHS, UNLABELLED_PATHS
from kdmodels.experiment.experiment import Experiment
from kdmodels.experiment.recipe import WEIGHTS_FILES
from kdmodels.experiment.user_code import named_code, named_sources, require_exists
from kdmodels.files.folders import find_path


def require_files(experiment: Experiment, data_dir: str | None = None) -> None:
    """Raise an error if an experiment names a file or module that does not exist.

    Args:
        experiment: The experiment.
        data_dir: The data folder. A relative path is searched in the current folder and in the data folder. If None,
            the value of the environment variable KD_DATA is used.

    Raises:
        UsageError: A file or module does not exist.
    """
    parent = data_dir or os.environ.get("KD_DATA")
    folder = Path(parent) if parent else None
    for field, source in named_sources(experiment):
        if source not in NAMED and ":" not in source:
            find_path(source, folder, field, PATHS)
    transfer = experiment.data.transfer
    if transfer and transfer.path:
        find_path(transfer.path, folder, "data.transfer.unlabelled", UNLABELLED_PATHS)
    for member in experiment.teacher.members:
        if member.checkpoint:
            find_path(member.checkpoint, folder, "teacher.checkpoint", WEIGHTS_FILES)
    for field, module in named_code(experiment):
        require_exists(field, module)
