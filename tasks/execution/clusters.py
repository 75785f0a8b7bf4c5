"""Clusters that train students: Ray and Dask, through Prefect's task runners for them.

If the experiment file names no address, a cluster is started on this machine for one comparison. Its processes accept
connections from this machine only, and only with a secret. The cluster ends with the comparison.

This module is the only one that imports Ray and Dask. Both are optional, so they are imported when a cluster is needed.
"""

import importlib
import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from secrets import token_hex
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner

from kdmodels.errors import UnavailableError, UsageError
from kdmodels.experiment import Runner
from kdmodels.files.temporary import temporary_folder
from kdmodels.redaction import shown_address
from tasks.execution.worker_process import WORKER_GONE, ClusterWorker

Tasks = TaskRunner[Any]

CLUSTERS = ("ray", "dask")
LOOPBACK = "127.0.0.1"
PASSED = ("AWS_", "KD_", "MLFLOW_", "PREFECT_")  # prefixes of the environment variables that workers take over
RETRIES = 3  # how often a student is restarted if its worker dies; also the default of Ray and Dask
LOCAL_RAY = {
    "RAY_worker_niceness": "0",  # Ray's default of 15 would let all other processes run first
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray then uses the loopback address, on every system
    "RAY_USAGE_STATS_ENABLED": "0",  # otherwise, Ray sends usage statistics to its authors
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # otherwise, Ray would install packages for its workers under `uv run`
}
STORE_BYTES = 80 * 2**20  # size of Ray's object store: about the minimum, because tasks exchange small references


@contextmanager
def cluster(runner: Runner, workers: int, cores: int) -> Iterator[Tasks]:
    """Provide the task runner of a Ray or Dask cluster. If the runner has no address, start the cluster and end it.

    If the block fails, running students are interrupted.

    Args:
        workers: The number of workers of a new cluster. Each worker trains one student at a time.
        cores: The number of cores that a student needs, which Ray reserves in an existing cluster.

    Raises:
        UsageError: Ray or Dask is not installed, or the workers of the cluster can't reach the servers.
        UnavailableError: No cluster has this address, or a worker died and the student could not be trained elsewhere.
    """
    _require_reachable(runner.address)
    with _ray(runner, workers, cores) if runner.kind == "ray" else _dask(runner, workers) as tasks:
        yield tasks


def in_words(runner: Runner) -> str | None:
    """Describe a cluster for the plan. If the students are trained by this process and its workers, return None.

    >>> in_words(Runner(kind="ray", workers=2)), in_words(Runner(kind="dask", address="tcp://a:8786"))
    ('ray, 2 workers on this machine', 'dask at tcp://a:8786')
    >>> in_words(Runner(kind="dask", address="tcp://a:8786", workers=2))
    'dask at tcp://a:8786, 2 students at once'
    """
    if runner.kind not in CLUSTERS:
        return None
    if not runner.address:
        return f"{runner.kind}, {runner.workers} worker{'s' * (runner.workers != 1)} on this machine"
    limit = f", {runner.workers} student{'s' * (runner.workers != 1)} at once" if runner.workers else ""
    return f"{runner.kind} at {runner.address}{limit}"


def cluster_worker() -> ClusterWorker:
    """Return what the workers of a cluster take over from this process."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
    return ClusterWorker(folder=os.getcwd(), environment=variables)


@contextmanager
def _ray(runner: Runner, workers: int, cores: int) -> Iterator[Tasks]:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if not runner.address:
        os.environ.update(LOCAL_RAY)  # read when Ray is imported
        os.environ.setdefault("RAY_AUTH_TOKEN", token_hex(32))
    ray, prefect_ray, context = _imported("ray", "ray", "prefect_ray", "prefect_ray.context")
    with nullcontext() if runner.address else _ray_folder() as folder:
        if folder:
            settings |= {
                "num_cpus": workers,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_temp_dir": folder,
            }
        if runner.address == "auto":  # otherwise, Prefect would start a cluster if none runs
            settings["address"] = runner.address
        tasks: Tasks = prefect_ray.RayTaskRunner(runner.address or "local", settings)
        try:
            with _sigterm_kept(), _reached(runner), chdir(os.sep):  # see `ClusterWorker`
                tasks.__enter__()
            reserved = {"num_cpus": cores if runner.address else 1, "num_gpus": runner.gpus_per_student or 0}
            with context.remote_options(**reserved, max_retries=RETRIES):
                yield tasks
        except ray.exceptions.RayTaskError as error:
            raise UnavailableError(f"a worker of the Ray cluster can't run the task: {error.cause}") from error
        except ray.exceptions.RayError as error:
            raise UnavailableError(WORKER_GONE) from error
        finally:
            ray.shutdown()


def _ray_folder() -> AbstractContextManager[str]:
    """Return a context manager for the folder of a cluster's sockets and logs, which Ray itself never deletes.

    The name of a Unix socket has at most 107 bytes, so the folder must have a short name.
    """
    return tempfile.TemporaryDirectory(prefix="kd-", dir="/tmp", ignore_cleanup_errors=True)


@contextmanager
def _dask(runner: Runner, workers: int) -> Iterator[Tasks]:
    dask, distributed, prefect_dask = _imported("dask", "dask", "distributed", "prefect_dask")
    # The routes are web pages without a password. A cluster with an address has its own settings.
    no_pages: dict[str, object] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
    with temporary_folder() as folder, dask.config.set(no_pages | {"temporary-directory": str(folder)}):
        settings = {
            "n_workers": workers,
            "threads_per_worker": 1,
            "host": LOOPBACK,
            "dashboard_address": f"{LOOPBACK}:0",
            "security": True,  # TLS: a process can connect only with the cluster's new certificate
            "memory_limit": 0,  # Dask would restart a worker above its share of the memory
            "silence_logs": logging.CRITICAL,
        }
        made = {"address": runner.address} if runner.address else {"cluster_kwargs": settings}
        with prefect_dask.DaskTaskRunner(**made) as tasks:
            with _reached(runner):
                _ = tasks.client  # connects
            try:
                yield tasks
            except (distributed.scheduler.KilledWorker, distributed.client.FutureCancelledError) as error:
                raise UnavailableError(WORKER_GONE) from error


def _require_reachable(address: str | None) -> None:
    """Raise an error if a cluster is on other machines, but a server of this command is reachable from this one only.

    Raises:
        UsageError: The MLflow or the Prefect server can't be reached from the cluster.
    """
    if not address or _is_here(address):
        return
    for variable, server in (
        ("MLFLOW_TRACKING_URI", os.environ["MLFLOW_TRACKING_URI"]),
        ("PREFECT_API_URL", PREFECT_API_URL.value() or ""),
    ):
        if _is_here(server):
            raise UsageError(
                f"runner.address: the workers of {address} can't reach {shown_address(server)}. "
                f"Allowed: in {variable}, the address of a server that other machines can reach"
            )


def _is_here(address: str) -> bool:
    """Return whether an address is that of a file or of a server that only this machine reaches.

    >>> _is_here("auto"), _is_here("localhost:6379"), _is_here("sqlite:////a/mlflow.db"), _is_here("ray://a:10001")
    (True, True, True, False)
    """
    host = urlsplit(address if "//" in address else f"//{address}").hostname
    return host in (None, "auto", "localhost", LOOPBACK, "::1")


def _imported(extra: str, *modules: str) -> list[ModuleType]:
    """Import the modules of an extra of kdflow.

    Raises:
        UsageError: The extra is not installed.
    """
    try:
        return [importlib.import_module(module) for module in modules]
    except ModuleNotFoundError as error:
        raise UsageError(
            f"runner.kind: {extra} needs the Python package {error.name}, which is not installed. "
            f"To install it: pip install 'kdflow[{extra}]'"
        ) from error


@contextmanager
def _reached(runner: Runner) -> Iterator[None]:
    """Turn the error of a cluster that does not answer into an error that names its address."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not runner.address:
            raise
        raise UnavailableError(
            f"runner.address: no {runner.kind.capitalize()} cluster answers at {runner.address!r}: "
            f"{next(iter(str(error).splitlines()), type(error).__name__)}"
        ) from error


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray replaces if it starts in the main thread."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)
