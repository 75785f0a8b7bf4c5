"""The main flow. It trains a teacher and several students, compares the students, and promotes the best student."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import deployment
from prefect.states import Cancelled, Completed

from flows.run_names import experiment_run
from flows.services.schedule_records import enter_schedule
from kdmodels.experiment import Experiment
from kdmodels.experiment.user_code import named_modules, require_all_allowed
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.cancellation import RunCancelledError
from tasks.compare_students import compare_students
from tasks.comparison_run import comparison, session
from tasks.cross_validation import join_folds, plan_folds, prepare_folds
from tasks.distil_knowledge import distil_knowledge
from tasks.fan_out import begin_beside_teacher, student_slots, student_workers, train_students
from tasks.measure_costs import measure_costs
from tasks.measure_metrics import with_metrics
from tasks.notify import report_end, report_failure
from tasks.planning.networks import sized
from tasks.prepare_data import prepare_data
from tasks.promote_student import promote_student
from tasks.references import Options, Outcome, Plan
from tasks.train_teacher import train_teachers
from tasks.ui import summaries
from tasks.ui.comparison import publish_comparison
from tasks.write_report import write_report

DEFAULTS = Options()


class StudentsFailedError(Exception):
    """The error that `distill` raises if at least one student failed.

    The other students were compared. The attribute `outcome` holds the results of all students.
    """

    def __init__(self, outcome: Outcome) -> None:
        failed = [student for student in outcome.students if student.status != RunStatus.FINISHED]
        super().__init__("; ".join(f"{student.variant}: {student.error or student.status}" for student in failed))
        self.outcome = outcome


@flow(flow_run_name=experiment_run)
def distill(experiment: Experiment, options: Options = DEFAULTS) -> Outcome:
    """Compare the experiment's loss variants and promote the best student.

    A loss variant is a combination of losses with which a student is trained.

    Raises:
        CancelledRun: Somebody cancelled the comparison with `kd cancel`.
        StudentsFailedError: At least one student failed. The error is raised at the end of the flow.
        UnavailableError: A worker process was killed or stopped.
        UsageError: The experiment of a scheduled run names code that the deployment does not allow.
        UserError: No student finished, or the flow failed for a reason that the user can correct.
    """
    try:
        outcome = compare_and_promote(experiment, options)
    except RunCancelledError as error:
        return Cancelled(message=str(error))  # type: ignore[return-value]  # Prefect raises CancelledRun instead
    except StudentsFailedError as error:
        report_end(error.outcome, experiment.notify)
        raise
    except Exception as error:
        report_failure(error, experiment)
        raise
    report_end(outcome, experiment.notify)
    state: State[Outcome] = Completed(message=summaries.outcome(outcome), data=outcome)
    return state  # type: ignore[return-value]  # Prefect returns the data of the state


def compare_and_promote(experiment: Experiment, options: Options) -> Outcome:
    """Run the steps of the flow `distill`, in the order of the diagram in README.md."""
    if deployment.id:  # users can change the parameters in the Prefect UI, and can name code that is not allowed
        enter_schedule(deployment.id)
        require_all_allowed(experiment)
    code = named_modules(experiment)
    with session(experiment) as clock, student_workers(experiment, options) as workers:
        with clock("data") as stage:
            splits = prepare_folds(experiment, options, prepare_data)
            experiment = sized(experiment, splits[0])
            stage.result = summaries.data(splits[0])
        with (
            comparison(experiment, splits, fresh=options.fresh, clock=clock) as folds,
            student_slots(workers, folds) as slots,
        ):
            warnings = folds[0].plan.warnings
            for warning in warnings:
                get_run_logger().warning(warning)
            results = []
            for fold in folds:
                with clock("teacher") as stage:
                    begun = begin_beside_teacher(slots, fold)
                    teacher = train_teachers(fold)
                    stage.result = summaries.teacher(teacher)
                with clock("knowledge") as stage:
                    knowledge = distil_knowledge(teacher, fold)
                    stage.result = summaries.knowledge(knowledge, len(fold.distilled_variants))
                with clock("students") as stage:
                    students = with_metrics(train_students(slots, fold, knowledge, begun), fold)
                    stage.result = summaries.students(students)
                results.append((teacher, students))
            with clock("compare") as stage:
                teacher, students = join_folds([measure_costs(*results[0]), *results[1:]], folds)
                leaderboard = compare_students(students, teacher, folds[0].parent, warnings)
                stage.result = summaries.leaderboard(leaderboard)
            with clock("promote") as stage:
                verdict = promote_student(leaderboard, experiment, splits[0], code=code)
                stage.result = verdict.reason
            with clock("report"):
                has_report = write_report(leaderboard, folds[0], clock.metrics)
            outcome = Outcome(
                experiment=experiment.name,
                parent_run_id=leaderboard.parent_run_id,
                teacher=teacher,
                students=students,
                notes=leaderboard.notes,
                verdict=verdict,
                seconds=clock.seconds,
            )
            publish_comparison(outcome, folds[0].plan, has_report=has_report)
            if any(student.status != RunStatus.FINISHED for student in students):
                raise StudentsFailedError(outcome)
    return outcome


def plan_only(experiment: Experiment, options: Options = DEFAULTS) -> Plan:
    """Return the actions that `distill` would take, with a reason for each action.

    Nothing is trained or recorded, and no Prefect server is needed.
    """
    tracking.configure()
    splits = prepare_folds(experiment, options, prepare_data.fn)
    return plan_folds(sized(experiment, splits[0]), splits, fresh=options.fresh)
