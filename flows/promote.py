"""The flow of `kd promote`. It promotes a student of an earlier comparison if the promotion gate agrees."""

from collections.abc import Sequence

from prefect import flow
from prefect.runtime import deployment

from flows.run_names import promote_run
from flows.services.schedule_records import enter_schedule
from kdmodels.errors import UsageError
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.prepare_data import find_training_data
from tasks.promote_student import promote_student
from tasks.promotion import PromoteOptions
from tasks.promotion_candidates import find_candidate, recorded_leaderboard
from tasks.references import VerdictReference
from tasks.ui.comparison import publish_verdict
from tasks.write_report import update_report

ALLOW = "To allow code, promote with the command: kd promote RUN --allow-code MODULE"


@flow(flow_run_name=promote_run)
def promote(
    run: str | None = None,
    *,
    data_dir: str | None = None,
    force: str | None = None,
    dry_run: bool = False,
    code: Sequence[str] = (),
) -> VerdictReference:
    """Promote the winner of a comparison, or another student, if the promotion gate accepts the student.

    The promotion gate decides whether a student replaces the champion, which is the registered model in use.

    Args:
        run: The run of a comparison or of a student in MLflow. The run is given by its id, a unique prefix of its id,
            or its name. Default: the latest comparison.
        data_dir: Folder of the data files. Default: the folder from which the comparison read its data.
        force: The user's reason for promoting the student even if the gate refuses. Default: the student is promoted
            only if the gate accepts it.
        dry_run: Whether to report the gate's decision without promoting the student. Even a dry run
            reads the test split, and this read is counted.
        code: Names of the modules that a stored network or data source is allowed to run.

    Raises:
        UsageError: A deployment started the flow, and `code` names modules.
        UserError: The run cannot be promoted, the data cannot be read, or the student cannot be compared with the
            champion.
    """
    if deployment.id:
        if code:
            raise UsageError(f"code: {', '.join(code)}: a run that Prefect's UI starts uses no code of yours. {ALLOW}")
        enter_schedule(deployment.id)
    comparison, variant = find_candidate(run)
    experiment = Experiment.model_validate(tracking.read_json(comparison.run_id, "experiment.json"))
    leaderboard = recorded_leaderboard(comparison, variant)
    (run_id,) = [student.run_id for student in leaderboard.students if student.variant == variant]
    assert run_id is not None
    data = find_training_data(comparison, tracking.get(run_id), data_dir, code)
    options = PromoteOptions(by_name=run is not None, force=force, dry_run=dry_run)
    verdict = promote_student(leaderboard, experiment, data, code=code, options=options)
    if not dry_run:
        update_report(leaderboard.parent_run_id)
    publish_verdict(verdict, leaderboard.teacher_run_id)
    return verdict
