"""register_teacher: register a teacher's network as a model that experiment files can name in `teacher.registry`."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.execution.team_locks import team_exclusive
from tasks.planning.leakage import record_training_images
from tasks.references import DataReference, Reference, TeacherReference
from tasks.tracking.tags import Tag

TEACHER = "teacher"
ABOUT = (
    "Teachers, which experiments name in `teacher.registry`. Each version is one ONNX file. The alias `champion` marks "
    "the version in use."
)


class TeacherVersion(Reference):
    """A registered version of a teacher.

    Attributes:
        model: The name of the registered model, for the field `teacher.registry`.
        run_id: The id of the teacher's run.
        reused: Whether an earlier run of the teacher was reused.
        warnings: Problems of the teacher that the user should know.
    """

    model: str
    version: int
    run_id: str
    reused: bool
    metrics: dict[str, float]
    warnings: list[str]


@task(task_run_name="register_teacher {model}", cache_policy=NO_CACHE)
def register_teacher(
    teacher: TeacherReference, experiment: Experiment, data: DataReference, model: str
) -> TeacherVersion:
    """Register the network of a teacher as the champion of a model, and return the version.

    If a version with this network exists already, make this version the champion.

    Args:
        data: The data of the students.
        model: The name of the registered model.

    Raises:
        UsageError: the registered model holds students, not teachers.
    """
    tracking.configure()
    if tracking.get(teacher.run_id).parent is None:  # no comparison has recorded these facts for `kd export`
        tracking.log_json(teacher.run_id, "experiment.json", experiment.model_dump(mode="json"))
        tracking.set_tags(teacher.run_id, {Tag.DATA_DIR: data.folder or ""})
    if not (experiment.teacher.checkpoint or experiment.teacher.registry):
        record_training_images(teacher.run_id, data.of(experiment.teacher))
    with team_exclusive(f"model {model}"):
        require_model_of_teachers(model, experiment)
        description = f"Teacher of the experiment {experiment.name}."
        version = tracking.register(model, teacher.run_id, tags={Tag.KIND: TEACHER}, description=description)
        tracking.describe_model(model, ABOUT)
        tracking.set_champion(version)
    return TeacherVersion(
        model=model,
        version=version.version,
        run_id=teacher.run_id,
        reused=teacher.reused,
        metrics=teacher.metrics,
        warnings=teacher.warnings,
    )


def require_one_teacher(experiment: Experiment) -> None:
    """Raise a UserError if the teacher is an ensemble, because an ensemble is not stored as one model."""
    if experiment.teacher.ensemble:
        raise UserError("teacher.ensemble: an ensemble can't be registered. Allowed: a single teacher")


def require_unregistered_teacher(experiment: Experiment) -> None:
    """Raise a UserError if the experiment takes its teacher from the registry."""
    if model := experiment.teacher.registry:
        raise UserError(f"teacher.registry: {model} is registered already, and can be used as it is")


def require_model_of_teachers(model: str, experiment: Experiment) -> None:
    """Raise a UsageError if a registered model holds students, not teachers.

    Only the promotion gate may change the champion of a registered model that holds students.
    """
    champion = tracking.champion(model)
    if model == experiment.promote.model or (champion and champion.tags.get(Tag.KIND) != TEACHER):
        raise UsageError(f"--as {model}: this is a model of students. Allowed: another name")
