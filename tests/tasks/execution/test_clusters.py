"""Errors of clusters, before students run. `tests/faults/test_clusters.py` trains students on clusters."""

import sys

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from kdmodels.errors import UnavailableError, UsageError
from kdmodels.experiment import Experiment, Runner
from tasks.execution.clusters import cluster
from tasks.execution.runners import available_cores, max_concurrent, runner_of, workers_for
from tests.conftest import SMALL


def planned(threads: int = 1, **runner: object) -> Runner:
    return runner_of(Experiment.model_validate(SMALL | {"device": "cpu", "threads": threads, "runner": runner}))


@pytest.mark.parametrize(("kind", "package"), [("ray", "prefect_ray"), ("dask", "distributed")])
def test_a_missing_extra_is_named(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError) as error, cluster(Runner.model_validate({"kind": kind}), 1, 1):
        pytest.fail("the cluster started")
    assert str(error.value) == (
        f"runner.kind: {kind} needs the Python package {package}, which is not installed. "
        f"To install it: pip install 'kdflow[{kind}]'"
    )


def test_an_address_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    address = "tcp://127.0.0.1:1"
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(UnavailableError, match=f"^runner.address: no Dask cluster answers at '{address}': "),
        cluster(Runner(kind="dask", address=address), 1, 1),
    ):
        pytest.fail("there is a cluster")


def test_workers_on_other_machines_need_servers_that_they_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(kind="dask", address="tcp://a:8786")
    for store, prefect, variable, server in [
        ("sqlite:////a/mlflow.db", "http://b:4200/api", "MLFLOW_TRACKING_URI", "sqlite:////a/mlflow.db"),
        ("http://b:5000", "http://127.0.0.1:4200/api", "PREFECT_API_URL", "http://127.0.0.1:4200"),
    ]:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
        with (
            temporary_settings({PREFECT_API_URL: prefect}),
            pytest.raises(UsageError) as error,
            cluster(runner, 1, 1),
        ):
            pytest.fail("the cluster started")
        assert str(error.value) == (
            f"runner.address: the workers of tcp://a:8786 can't reach {server}. "
            f"Allowed: in {variable}, the address of a server that other machines can reach"
        )


def test_a_cluster_on_this_machine_has_one_worker_for_each_core_that_threads_leaves() -> None:
    cores = available_cores()
    assert planned(kind="ray") == Runner(kind="ray", workers=cores)
    assert planned(kind="dask", threads=cores) == Runner(kind="dask", workers=1)
    assert planned(kind="ray", threads=cores + 1).workers == 1
    assert planned(kind="ray", workers=7).workers == 7


def test_a_cluster_with_an_address_gets_all_students_unless_workers_limits_them() -> None:
    runner = planned(kind="dask", address="tcp://a:8786")
    assert (runner.workers, max_concurrent(runner, 50)) == (None, 50)
    assert max_concurrent(planned(kind="ray", address="ray://a:10001", workers=3), 50) == 3


def test_no_process_of_this_command_waits_for_a_cluster() -> None:
    assert workers_for(Runner(kind="ray", workers=8), 8) == 0


def test_ray_gives_each_student_a_gpu_and_dask_shares_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.execution.runners.count_gpus", lambda device: 4)
    assert planned(kind="ray") == Runner(kind="ray", workers=4, gpus_per_student=1)
    assert planned(kind="ray", gpus_per_student=0.3).workers == 12
    assert planned(kind="ray", address="auto") == Runner(kind="ray", address="auto", gpus_per_student=1)
    assert planned(kind="dask") == Runner(kind="dask", workers=1)
