"""A student that is reused gets the names that this experiment gives it, and a job survives a trip as JSON."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from socket import gethostname

import pytest

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.execution.worker_process import ClusterWorker
from tasks.planning.plan import make_plan
from tasks.prepare_data import prepare_data
from tasks.student_job import StudentJob
from tasks.train_student import train_student
from tests.conftest import RECORDED, Recorded


@pytest.fixture
def job(recorded: Recorded) -> StudentJob:
    """The job of `kd`, which the first recorded comparison has trained, under another name."""
    kd = {"name": "taught", "terms": "kd"}
    experiment = Experiment.model_validate(RECORDED | {"variants": ["hard-labels", kd]})
    data = prepare_data.fn(experiment.data, None)
    step = make_plan(experiment, data).students[1]
    return StudentJob(
        variant=experiment.variants[1], step=step, experiment=experiment, data=data, views=1, parent=recorded.first
    )


def test_a_reused_student_has_the_name_of_this_experiment(job: StudentJob, recorded: Recorded) -> None:
    student = train_student.fn(job)
    assert (student.variant, student.control, student.reused) == ("taught", "hard-labels", True)
    assert student.run_id is not None
    run = tracking.get(student.run_id)
    assert (run.name, run.parent) == ("kd", recorded.first)
    assert student.seeds == [0, 1]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterWorker:
    monkeypatch.chdir(tmp_path)  # undone after the test, as is the change of folder by the worker
    (tmp_path / "work").mkdir()
    return ClusterWorker(folder=str(tmp_path / "work"), environment={})


def to_train(job: StudentJob, **params: object) -> StudentJob:
    return job.model_copy(
        update={"step": job.step.model_copy(update={"action": "train", "params": job.step.params | params})}
    )


def test_a_worker_of_a_cluster_does_not_train_a_student_that_has_finished(
    job: StudentJob, recorded: Recorded, worker: ClusterWorker
) -> None:
    """If a worker dies, Dask runs its finished tasks again."""
    count = len(tracking.runs(kind="student"))
    student = train_student.fn(to_train(job), worker)
    assert (student.reused, student.run_id) == (True, train_student.fn(job).run_id)
    assert len(tracking.runs(kind="student")) == count
    assert os.getcwd() == worker.folder


def test_a_worker_of_a_cluster_refuses_a_student_whose_key_would_differ(job: StudentJob, worker: ClusterWorker) -> None:
    here = version("torch")
    with pytest.raises(UserError) as error:
        train_student.fn(to_train(job, torch="1.0"), worker)
    assert str(error.value) == (
        f"runner: the worker on {gethostname()} has torch: {here}, but the plan has 1.0. "
        "Allowed: workers with the same packages and modules as this machine"
    )


def test_a_job_survives_a_trip_as_json(job: StudentJob) -> None:
    assert StudentJob.model_validate_json(job.model_dump_json()) == job


def test_the_calibrated_weight_is_a_param_of_the_run(recorded: Recorded) -> None:
    of_auto, of_number = (
        next(run for run in tracking.children(parent) if run.name == "kd")
        for parent in (recorded.first, recorded.again)
    )
    weight = float(of_auto.params["calibrated.soft_targets"])
    assert weight > 0
    assert of_auto.params["terms.1.weight.auto"] == "1.0"  # the key depends on the rule
    assert of_auto.metrics["gradient_ratio/soft_targets"] == pytest.approx(1)
    assert "calibrated.soft_targets" not in of_number.params
    assert of_number.metrics["gradient_ratio/soft_targets"] > 0


def test_a_comparison_without_a_search_imports_neither_optuna_nor_matplotlib() -> None:
    code = "import sys, kd.flow_run; print([name for name in ('optuna', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
