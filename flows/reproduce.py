"""The flow of `kd reproduce`. It runs a paper's experiments, and tests the paper's claims.

No student is promoted. All students are measured on the test split, after all of them are trained.
"""

import time
from datetime import UTC, datetime
from importlib.metadata import version

from prefect import flow

from flows.experiments import load_paper_experiment, load_paper_generator
from flows.generate import trained
from flows.run_names import reproduce_run
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.papers import find_reproduction
from kdmodels.papers.claims import ReproductionResult
from kdmodels.papers.reproduction import PaperExperiment, Reproduction
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.compare_students import compare_students
from tasks.comparison_run import comparison, session
from tasks.cross_validation import prepare_folds
from tasks.distil_knowledge import distil_knowledge
from tasks.fan_out import begin_beside_teacher, student_slots, student_workers, train_students
from tasks.measure_claims import Measured, PaperComparison, measure_claims
from tasks.planning.networks import sized
from tasks.prepare_data import prepare_data
from tasks.references import Options, Reference
from tasks.reproductions import record, reproduction_run
from tasks.tracking.tags import GENERATOR, Tag
from tasks.train_teacher import train_teachers

LIBRARIES = ("torch", "numpy", "mlflow", "prefect", "kdflow")


class ReproduceOptions(Reference):
    """Options of `kd reproduce`.

    Attributes:
        seeds: The number of seeds. Default: the number that the reproduction sets, or 1 if `quick` is set.
        quick: Whether to reduce the reproduction to a few seconds, for tests.
        data_dir: The folder of the data files. Default: $KD_DATA.
        output: The folder to which the result is also written after each seed. Default: none.
    """

    seeds: int | None = None
    quick: bool = False
    data_dir: str | None = None
    output: str | None = None


DEFAULTS = ReproduceOptions()


@flow(flow_run_name=reproduce_run)
def reproduce(name: str, options: ReproduceOptions = DEFAULTS) -> ReproductionResult:
    """Run a paper's experiments for one seed after another, and test the paper's claims after each seed.

    Finished runs are reused, and interrupted runs are resumed. An interrupted reproduction therefore continues where it
    stopped.

    Args:
        name: The name of the reproduction.

    Raises:
        UsageError: There is no reproduction with this name.
        UserError: The data can't be read, the result can't be written, or a student failed.
    """
    reproduction, began = find_reproduction(name), time.monotonic()
    seeds = options.seeds or (1 if options.quick else reproduction.seeds)
    tracking.configure()
    with reproduction_run(name, seeds, quick=options.quick) as run_id:
        finished: list[PaperComparison] = []
        for count in range(1, seeds + 1):
            earlier = finished if reproduction.own_teachers else []
            finished = [*earlier, *_run_experiments(reproduction, count, options)]
            measured = measure_claims(name, finished, count)
            result = _result(reproduction, options, measured, finished, (count, seeds), time.monotonic() - began)
            record(run_id, result, options.output)
    return result


def _run_experiments(reproduction: Reproduction, count: int, options: ReproduceOptions) -> list[PaperComparison]:
    """Run all experiments of a reproduction for one more seed, and return their comparisons.

    If each seed has its own teacher, a comparison contains only the new seed. If all seeds share a teacher, a
    comparison contains all seeds so far, and the runs of the earlier seeds are reused.

    Args:
        count: The number of seeds that are finished after this call.
    """
    seed, seeds = (count - 1, 1) if reproduction.own_teachers else (0, count)
    comparisons = []
    run_options = Options(data_dir=options.data_dir, quiet=True)
    for part in reproduction.experiments:
        overrides = [*(part.quick if options.quick else ()), f"seed={seed}", f"student.seeds={seeds}"]
        if part.generator:
            model = _generator(part.generator, seed, run_options, reproduction.name, quick=options.quick)
            overrides.append(f"data.transfer.generator={model}")
        comparisons.append(_compare(load_paper_experiment(part.file, overrides), run_options, reproduction.name))
    return comparisons


def _generator(part: PaperExperiment, seed: int, options: Options, reproduction: str, *, quick: bool) -> str:
    """Train a generator, register it without making it the champion, and return the URI of the registered version.

    The promotion gate is skipped, because the reproduction needs every generator, even a generator that the gate would
    refuse.
    """
    experiment = load_paper_generator(part.file, [*(part.quick if quick else ()), f"seed={seed}"])
    with trained(experiment, options) as made:
        tracking.set_tags(made.parent, {Tag.REPRODUCTION: reproduction})
        version = tracking.register(
            experiment.name,
            made.generator.run_id,
            tags={Tag.KIND: GENERATOR, Tag.REPRODUCTION: reproduction},
            description=f"A generator of kd reproduce {reproduction}, on which no gate decided.",
        )
    return version.uri


def _compare(experiment: Experiment, options: Options, reproduction: str) -> PaperComparison:
    """Train the teacher and the students of an experiment, and compare them on the validation split."""
    with session(experiment) as clock, student_workers(experiment, options) as workers:
        splits = prepare_folds(experiment, options, prepare_data)
        experiment = sized(experiment, splits[0])
        with (
            comparison(experiment, splits, fresh=False, clock=clock) as (fold,),
            student_slots(workers, [fold]) as slots,
        ):
            tracking.set_tags(fold.parent, {Tag.REPRODUCTION: reproduction})
            begun = begin_beside_teacher(slots, fold)
            teacher = train_teachers(fold)
            knowledge = distil_knowledge(teacher, fold)
            students = train_students(slots, fold, knowledge, begun)
            leaderboard = compare_students(students, teacher, fold.parent, fold.plan.warnings)
            if failed := [student for student in students if student.status != RunStatus.FINISHED]:
                problems = "; ".join(f"{student.variant}: {student.error or student.status}" for student in failed)
                raise UserError(f"{experiment.name}: {problems}")
    return PaperComparison(experiment=experiment, data=splits[0], leaderboard=leaderboard)


def _result(
    reproduction: Reproduction,
    options: ReproduceOptions,
    measured: Measured,
    comparisons: list[PaperComparison],
    seeds: tuple[int, int],
    seconds: float,
) -> ReproductionResult:
    """Return the result of the seeds that are finished so far.

    Args:
        seeds: The number of finished seeds, and the number of planned seeds.
        seconds: The seconds since the flow began.
    """
    done, planned = seeds
    quick = " --quick" if options.quick else ""
    return ReproductionResult(
        name=reproduction.name,
        title=reproduction.title,
        papers=list(reproduction.papers),
        command=f"kd reproduce {reproduction.name}{quick} --seeds {planned}",
        quick=options.quick,
        seeds=done,
        planned_seeds=planned,
        seconds=round(seconds, 1),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={library: version(library) for library in LIBRARIES},
        differences=list(reproduction.differences),
        runs=[part.leaderboard.parent_run_id for part in comparisons],
        outcomes=measured.outcomes,
        tables=measured.tables,
    )
