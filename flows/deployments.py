"""Experiments that run by themselves: the schedules, and what `kd up` keeps running on this machine to serve them."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flows import server
from flows.credentials import read_or_create
from flows.processes import spawn, stop
from flows.schedule_records import ScheduleRecord, delete_record, write_record
from kdmodels import own_code
from kdmodels.durable import write_whole
from kdmodels.errors import UsageError, UserError, allowed, redacted
from kdmodels.experiment import LONGEST_REST, Experiment, is_cron, is_timezone

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    from tasks.references import Options

POOL = "kdflow"
ENTRYPOINT = "flows.distill.distill"
POLL_SECONDS = 2  # how often the worker asks for due runs; it starts them ahead, so that they begin when they are due


def up(*, port: int = 4200, mlflow_port: int = 5000, login: bool = False) -> None:
    """Serve Prefect's UI and schedules and the MLflow UI on this machine, until Ctrl-C or SIGTERM.

    Args:
        login: whether MLflow asks for a user and password.

    Raises:
        UserError: a port is taken, a `kd up` runs already, Prefect is set to another server, or a part of it stops.
    """
    if port == mlflow_port:
        raise UsageError(f"--port {port} and --mlflow-port {mlflow_port} are the same: choose two")
    from tasks import tracking

    if state := server.up_state():
        raise UserError(f"kd up runs already (process {state['pid']}, {state['url']}): stop it first")
    url = f"http://127.0.0.1:{port}/api"
    if (other := server.configured_url()) not in (None, url):
        raise UserError(
            f"kd up starts a server of its own, but PREFECT_API_URL or the profile names {redacted(other)}: unset it"
        )
    server.bind(mlflow_port, option="--mlflow-port").close()
    server.prefect_home().mkdir(mode=0o700, parents=True, exist_ok=True)
    auth = server.auth_string()
    with _until_stopped() as children, server.bind(port) as listener, contextlib.ExitStack() as stack:
        os.environ.update(_environment(url, auth))
        process, _ = server.start_server(listener, auth, ephemeral=False, log=sys.stderr.fileno())
        children["the Prefect server"] = process
        store = tracking.configure()
        mlflow = tracking.redacted(store)
        if not store.startswith("http"):
            children["the MLflow server"], mlflow = stack.enter_context(_mlflow_server(store, mlflow_port, login=login))
        server.Server(url, process).wait_ready()
        _prepare_pool()
        children["the Prefect worker"] = _start_module(["flows.worker"])
        with _state(url, auth):
            print(f"Prefect  {url.removesuffix('/api')}  {_password(auth)}", file=sys.stderr)
            print(f"MLflow   {mlflow}\nCtrl-C stops both.", file=sys.stderr, flush=True)
            _wait(children)


def mlflow_ui(*, port: int = 5000, login: bool = False) -> None:
    """Serve the MLflow UI of a store that is not a server, until Ctrl-C or SIGTERM.

    Args:
        login: whether it asks for a user and password.

    Raises:
        UserError: the port is taken.
    """
    from tasks import tracking

    store = tracking.configure()
    server.bind(port).close()
    with _until_stopped() as children, contextlib.ExitStack() as stack:
        children["the MLflow server"], mlflow = stack.enter_context(_mlflow_server(store, port, login=login))
        print(f"MLflow   {mlflow}\nCtrl-C stops it.", file=sys.stderr, flush=True)
        _wait(children)


def schedule(
    experiment: Experiment,
    *,
    cron: str | None = None,
    every: int | None = None,
    timezone: str | None = None,
    allow_code: Sequence[str] = (),
    options: "Options | None" = None,
) -> dict[str, Any]:
    """Make the experiment run by itself, in this folder, while a `kd up` serves it; its earlier schedule is replaced.

    Args:
        cron: minute, hour, day of month, month, day of week; `timezone` is that of the hour, UTC where it is None.
        every: seconds between starts.
        allow_code: the modules, packages and files whose code the runs may name; no others, whoever changes their
            parameters later.
        options: those of every run; a relative data folder is taken from this working folder.
        With neither cron nor every, the experiment's own `schedule` counts.
    Returns:
        What `schedules` says of it.
    Raises:
        UserError: the schedule is not one.
        UsageError: the experiment names code that is not allowed.
    """
    allowed_code = [os.path.abspath(word) if word.endswith(".py") else word for word in allow_code]
    if cron is None and every is None and experiment.schedule:
        cron, every = experiment.schedule.cron, experiment.schedule.every
        timezone = timezone or experiment.schedule.timezone
    own_code.require_all_allowed(experiment, ",".join(allowed_code))
    rhythm = _rhythm(cron, every, timezone)
    with _client() as client:
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        from prefect.utilities.callables import parameter_schema

        from flows.distill import distill
        from tasks.references import Options

        options = options or Options()
        folder = options.data_dir or os.environ.get("KD_DATA")
        options = options.model_copy(update={"data_dir": folder and str(Path(folder).absolute())})
        _prepare_pool()
        deployment_id = client.create_deployment(
            client.create_flow(distill),
            experiment.name,
            schedules=[DeploymentScheduleCreate(schedule=rhythm, active=True)],
            parameters={"experiment": experiment.model_dump(mode="json"), "options": options.model_dump(mode="json")},
            entrypoint=ENTRYPOINT,
            work_pool_name=POOL,
            parameter_openapi_schema=parameter_schema(distill).model_dump(),
            enforce_parameter_schema=True,
            description=distill.description,
        )
        write_record(deployment_id, ScheduleRecord(folder=str(Path.cwd()), allow_code=allowed_code))
        return _described(client.read_deployment_by_name(f"{distill.name}/{experiment.name}"))


def schedules() -> list[dict[str, Any]]:
    """The scheduled experiments by name: `name`, `cron`, `timezone`, `every` (seconds) and `active`."""
    with _client() as client:
        return [_described(deployment) for deployment in _deployments(client)]


def unschedule(name: str) -> None:
    """Delete an experiment's schedule, and the runs that it has planned.

    Raises:
        UserError: there is no schedule of that name.
    """
    with _client() as client:
        found = {deployment.name: deployment.id for deployment in _deployments(client)}
        if name not in found:
            raise UserError(f"no schedule {name!r}: {allowed(name, found)}")
        client.delete_deployment(found[name])
        delete_record(found[name])


def _rhythm(cron: str | None, every: int | None, timezone: str | None) -> "CronSchedule | IntervalSchedule":
    if (cron is None) == (every is None):
        raise UserError("a schedule needs one of --cron '0 3 * * *' and --every SECONDS")
    if every is not None and not 1 <= every <= LONGEST_REST:
        raise UserError(f"--every {every}: allowed are whole seconds from 1 to {LONGEST_REST}")
    no_cron = UserError(f"--cron {cron!r} is not one (allowed: five fields, as '0 3 * * *')")
    if cron is not None and not is_cron(cron):
        raise no_cron
    if timezone and every:
        raise UserError(f"--timezone {timezone}: allowed with --cron only")
    if timezone is not None and not is_timezone(timezone):
        raise UserError(f"--timezone {timezone!r} is not one (allowed: names as Europe/Berlin)")
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    if every is not None:
        return IntervalSchedule(interval=timedelta(seconds=every))
    try:
        return CronSchedule(cron=cron or "", timezone=timezone)
    except ValidationError as error:
        raise no_cron from error


@contextlib.contextmanager
def _client() -> "Iterator[SyncPrefectClient]":
    with server.running_server() as running:
        from prefect.client.orchestration import get_client

        running.wait_ready()
        with get_client(sync_client=True) as client:
            yield client


def _deployments(client: "SyncPrefectClient") -> "list[DeploymentResponse]":
    from prefect.client.schemas.sorting import DeploymentSort

    found = client.read_deployments(limit=200, sort=DeploymentSort.NAME_ASC)  # 200 is all that Prefect gives at once
    return [deployment for deployment in found if deployment.entrypoint == ENTRYPOINT]


def _described(deployment: "DeploymentResponse") -> dict[str, Any]:
    rhythm = deployment.schedules[0].schedule if deployment.schedules else None
    interval = getattr(rhythm, "interval", None)
    return {
        "name": deployment.name,
        "cron": getattr(rhythm, "cron", None),
        "timezone": getattr(rhythm, "timezone", None) if interval is None else None,
        "every": interval and int(interval.total_seconds()),
        "active": bool(deployment.schedules) and deployment.schedules[0].active and not deployment.paused,
    }


def _prepare_pool() -> None:
    """Make the work pool of the schedules. If there is one, reset its template."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        except ObjectAlreadyExists:
            client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))


def _password(auth: str) -> str:
    """Say how to log in to Prefect. Where a file keeps the output, the password itself is not shown."""
    if server.setting("PREFECT_SERVER_API_AUTH_STRING") and not sys.stderr.isatty():
        return "password: your PREFECT_SERVER_API_AUTH_STRING"
    return f"password {_shown(auth, server.auth_file(), before=auth.partition(':')[0] + ':')}"


def _shown(password: str, file: Path, *, before: str = "") -> str:
    return password if sys.stderr.isatty() else f"{before}<the text in {file}>"


def _environment(url: str, auth: str) -> dict[str, str]:
    data = os.environ.get("KD_DATA")
    return {
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_UI_API_URL": url,  # else the UI calls port 4200, wherever the server is
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS),
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **({"KD_DATA": str(Path(data).absolute())} if data else {}),  # a scheduled run has another working folder
    }


@contextlib.contextmanager
def _mlflow_server(store: str, port: int, *, login: bool) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start the MLflow server of a store; yield its process, and its address with how to log in."""
    from tasks import tracking
    from tasks.tracking import login as mlflow_login

    folder = tracking.artifact_folder(store)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(folder), "--uvicorn-opts", "--log-level warning"]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": store,  # not as an argument, where everybody would see its password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # three processes more, for what kdflow does not use
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
    }
    address = f"http://127.0.0.1:{port}"
    if not login:
        yield _start_module([*command, "--app-name", "kdflow"], environment), address
        return
    file = server.prefect_home() / "kdflow-mlflow-password"
    password = read_or_create(file)
    environment |= mlflow_login.settings(folder.parent, password)
    environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_urlsafe(32)
    address += f"  user {mlflow_login.USER}, password {_shown(password, file)}"
    with mlflow_login.announced(port, password):
        yield _start_module([*command, "--app-name", "kdflow-login"], environment), address


def _start_module(command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return spawn([sys.executable, "-P", "-m", *command], log=sys.stderr.fileno(), env=environment)


@contextlib.contextmanager
def _until_stopped() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Children to be stopped when the block ends; Ctrl-C and SIGTERM end it without an error."""
    children: dict[str, subprocess.Popen[bytes]] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield children
    finally:
        with contextlib.ExitStack() as stack:
            for child in children.values():
                stack.callback(stop, child)
        signal.signal(signal.SIGTERM, before)


def _wait(children: dict[str, subprocess.Popen[bytes]]) -> None:
    while True:
        for name, child in children.items():
            if child.poll() is not None:
                raise UserError(f"{name} stopped with exit code {child.returncode}: it says why above")
        time.sleep(0.5)


@contextlib.contextmanager
def _state(url: str, auth: str) -> Iterator[None]:
    state = json.dumps({"url": url, "auth": auth, "pid": str(os.getpid())})
    path = write_whole(server.state_file(), lambda partial: partial.write_text(state))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
