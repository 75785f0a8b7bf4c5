"""Support for runs of earlier versions of kdflow, which stored models in formats other than ONNX."""

from collections.abc import Collection

from kdmodels.data import Dataset
from kdmodels.networks import load_network
from kdmodels.serving.agreement import served_file
from kdmodels.serving.graph import metadata_of
from kdmodels.serving.model_file import ServedModel
from tasks import tracking
from tasks.measure_costs import measured
from tasks.results import NETWORK
from tasks.served_models import members_of, record_model, run_model
from tasks.tracking.contents import model_id
from tasks.tracking.served import has_file


def model_of(run_id: str, data: Dataset, code: Collection[str], *, record: bool) -> ServedModel:
    """Load a run's ONNX model. If the run has no ONNX model, convert its stored weights to ONNX.

    Some runs of earlier versions of kdflow have no ONNX model.

    Args:
        data: The dataset that the network was trained on.
        code: The modules and files whose code the user allows to run. If the weights have to be converted, the network
            may need them.
        record: Whether a converted model is stored with the run.

    Raises:
        UserError: kdflow refuses to load the model, or the network can't be loaded or converted.
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
    """Return a version of the champion that has an ONNX model.

    If the champion has no ONNX model, convert its weights to ONNX and register the result as a new version.

    Args:
        data, code: See `model_of`.
    """
    if champion.run_id is None or has_file(champion.uri):
        return champion
    model_of(champion.run_id, data, code, record=True)
    return tracking.register_again(champion)


def models_of(run_id: str, data: Dataset, code: Collection[str], *, record: bool) -> list[ServedModel]:
    """Return a list with the ONNX model of a run, or with the models of all members of an ensemble. See `model_of`."""
    return [model_of(member, data, code, record=record) for member in members_of(run_id)]
