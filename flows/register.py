"""The flow of `kd register`. It makes a model from elsewhere the champion that the next student has to beat."""

from pathlib import Path

from prefect import flow

from flows.run_names import register_run
from kdmodels.experiment import Experiment
from tasks.comparison_run import session
from tasks.cross_validation import prepare_folds
from tasks.planning.networks import sized
from tasks.planning.plan import make_plan
from tasks.prepare_data import prepare_data
from tasks.references import Options
from tasks.register_model import ONNX, RegisteredModel, record_onnx, register_model
from tasks.train_teacher import train_teacher


@flow(flow_run_name=register_run)
def register(experiment: Experiment, options: Options, file: str, model: str) -> RegisteredModel:
    """Make a model from elsewhere the champion of a registered model. The test split is not read.

    Args:
        experiment: An experiment with the data. If the file is not ONNX, its teacher has the network and the
            checkpoint.
        file: The path of the model.
        model: Name of the registered model.

    Raises:
        UserError: The data or the file can't be read, the model does not fit the data, or there is a champion already.
    """
    with session(experiment):
        data = prepare_folds(experiment, options, prepare_data)[0]
        if Path(file).suffix == ONNX:
            run_id = record_onnx(file, experiment, data)
        else:
            experiment = sized(experiment, data)
            step = make_plan(experiment, data).teacher
            run_id = train_teacher(experiment.teacher, experiment, data, step, None).run_id
        return register_model(run_id, model)
