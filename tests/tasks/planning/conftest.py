"""The digits as planning sees them."""

import pytest

from kdmodels.data import load_dataset
from kdmodels.experiment import Data, Experiment
from tasks.references import DataReference


@pytest.fixture(scope="session")
def data() -> DataReference:
    digits = Data(source="digits")
    dataset = load_dataset(digits)
    return DataReference(
        data=digits, folder=None, digest=dataset.digest, training_digest=dataset.training_digest,
        distillation_digest=dataset.distillation_digest, examples={},
        input_shape=dataset.input_shape, classes=dataset.classes, mean=dataset.mean, std=dataset.std,
    )  # fmt: skip


def small_experiment(*variants: object, batch: int = 64, **fields: object) -> Experiment:
    """Return an experiment on digits with networks that build fast."""
    return Experiment.model_validate(
        {
            "name": "tried",
            "data": "digits",
            "teacher": {"network": {"mlp": [16, 8]}, "epochs": 1},
            "student": {"network": {"mlp": [4, 3]}, "epochs": 1, "batch": batch},
            "variants": list(variants),
            **fields,
        }
    )
