"""The flow of `kd teacher`. It trains or loads the teacher of an experiment, and registers the teacher as a model."""

from prefect import flow

from flows.run_names import teacher_run
from kdmodels.experiment import Experiment
from tasks.comparison_run import session
from tasks.cross_validation import prepare_folds
from tasks.planning.networks import sized
from tasks.planning.plan import make_plan
from tasks.prepare_data import prepare_data
from tasks.references import Options
from tasks.register_teacher import TeacherVersion, register_teacher, require_one_teacher
from tasks.train_teacher import train_teacher


@flow(flow_run_name=teacher_run)
def teacher(experiment: Experiment, options: Options, model: str) -> TeacherVersion:
    """Train or load the teacher of an experiment, and register the teacher as a model.

    No student is trained, and the test split is not read. A finished run with the same teacher settings and data
    is reused. With cross-validation, the teacher of the first fold is registered.

    Args:
        model: Name of the registered model.

    Raises:
        UserError: The experiment has an ensemble of teachers, `model` is the name of a student model, or the data or
            the teacher can't be read.
    """
    require_one_teacher(experiment)
    with session(experiment):
        data = prepare_folds(experiment, options, prepare_data)[0]
        experiment = sized(experiment, data)
        step = make_plan(experiment, data, fresh=options.fresh).teacher
        trained = train_teacher(experiment.teacher, experiment, data, step, None)
        return register_teacher(trained, experiment, data, model)
