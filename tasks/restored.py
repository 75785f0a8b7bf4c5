"""Runs of earlier versions of kdflow, which stored their models in other formats than ONNX."""

from collections.abc import Collection

from kdmodels.data import Dataset
from kdmodels.networks import load_network
from kdmodels.serving.agreement import served_file
from kdmodels.serving.graph import metadata_of
from kdmodels.serving.model_file import ServedModel
from tasks import tracking
from tasks.costs import measured
from tasks.results import NETWORK
from tasks.served import members_of, record_model, run_model
from tasks.tracking.contents import model_id
from tasks.tracking.served import has_file


def model_of(run_id: str, data: Dataset, code: Collection[str], *, record: bool) -> ServedModel:
    """Load a run's ONNX model. If an earlier version of kdflow stored another format, make it from the weights.

    Args:
        data: that the network was trained on. code: the modules that the user named, whose code the network may run
            if its model has to be made. record: whether a model that was made is stored with the run.

    Raises:
        UserError: the model is refused; or as `load_network` and `record_model`.
    """
    if model_id(run_id) is not None:
        return run_model(run_id)
    network, description = load_network(tracking.artifact(run_id, NETWORK), code)
    if not record:
        return ServedModel(served_file(description, network, metadata_of(description, run_id), data.validation)[0])
    record_model(run_id, description, network, data)
    measured(run_id, again=True)
    return run_model(run_id)


def served_champion(champion: tracking.Version, data: Dataset, code: Collection[str]) -> tracking.Version:
    """Return the champion; one of an earlier format is registered again, as ONNX made from its stored weights.

    Args:
        data, code: as of `model_of`.
    """
    if champion.run_id is None or has_file(champion.uri):
        return champion
    model_of(champion.run_id, data, code, record=True)
    return tracking.register_again(champion)


def models_of(run_id: str, data: Dataset, code: Collection[str], *, record: bool) -> list[ServedModel]:
    """Load a run's ONNX model as `model_of` does; of an ensemble's run those of its members."""
    return [model_of(member, data, code, record=record) for member in members_of(run_id)]
