"""Functions that run the MLflow server of a local tracking store, for `kd ui` and `kd up`."""

import contextlib
import secrets
import sys
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

from flows.services.children import require_running, start_module, until_stopped, wait_for_exit
from flows.services.credentials import read_or_create
from flows.services.prefect_health import answers
from flows.services.prefect_server import bind
from flows.services.prefect_settings import prefect_home
from kdmodels.errors import redacted
from tasks import tracking
from tasks.tracking import login as mlflow_login


def ui(port: int = 5000, *, login: bool = False, open_page: bool = False) -> None:
    """Serve the MLflow UI of the tracking store on the loopback address until Ctrl-C or SIGTERM.

    Print the addresses of the UI and of its page with the latest runs. If the store is an MLflow server, print these
    addresses and return.

    Args:
        port: Port of the MLflow UI.
        login: Whether the server requires a user name and a password.
        open_page: Whether to open the page in the browser.

    Raises:
        UserError: The port is in use, or the store cannot be used.
    """
    store = tracking.configure()
    if store.startswith(("http://", "https://")):
        print(f"MLflow   {redacted(store)}", file=sys.stderr)
        _show_page(tracking.address(tracking.latest_link()), open_page=open_page)
        return
    bind(port).close()
    with until_stopped() as children, contextlib.ExitStack() as stack:
        children["the MLflow server"], address = stack.enter_context(serve_store(store, port, login=login))
        print(f"MLflow   {address}\nCtrl-C stops it.", file=sys.stderr, flush=True)
        page = tracking.address(tracking.latest_link())
        while open_page and not answers(f"http://127.0.0.1:{port}"):
            require_running(children)
            time.sleep(0.1)
        _show_page(page, open_page=open_page)
        wait_for_exit(children)


def _show_page(page: str | None, *, open_page: bool) -> None:
    """Print the address of a page of the UI, and open the page in the browser if the user asked for it."""
    print(f"page     {page}", file=sys.stderr, flush=True)
    if open_page and page and not webbrowser.open(page):
        print("--open: no browser was found. Open the page yourself.", file=sys.stderr, flush=True)


@contextlib.contextmanager
def serve_store(store: str, port: int, *, login: bool, log: int | None = None) -> Iterator[tuple["Popen[bytes]", str]]:
    """Start the MLflow server of a local store.

    Args:
        store: URI of the store.
        port: Port of the loopback address.
        login: Whether the server requires a user name and a password.
        log: File descriptor for the server's output. Default: stderr.

    Yields:
        The server's process, and a text with the server's address. If the server requires a login, the text also
        contains the user name and the password.
    """
    folder = tracking.artifact_folder(store)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(folder), "--uvicorn-opts", "--log-level warning"]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": store,  # every user could read a password in a command-line argument
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # avoids three processes that kdflow does not use
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
    }
    address = f"http://127.0.0.1:{port}"
    if not login:
        with tracking.ui_announced(store, address):
            yield start_module([*command, "--app-name", "kdflow"], environment, log=log), address
        return
    file = prefect_home() / "kdflow-mlflow-password"
    password = read_or_create(file)
    environment |= mlflow_login.settings(folder.parent, password)
    environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_urlsafe(32)
    shown = f"{address}  user {mlflow_login.USER}, password {shown_password(password, file)}"
    with mlflow_login.announced(port, password), tracking.ui_announced(store, address):
        yield start_module([*command, "--app-name", "kdflow-login"], environment, log=log), shown


def shown_password(password: str, file: Path, *, user: str | None = None) -> str:
    """Return the password if stderr is a terminal. Otherwise, return a text that names the password's file.

    If stderr is not a terminal, it may be a file that other users can read.

    Args:
        password: The password, or `USER:PASSWORD` if `user` is given.
        file: File that contains the password.
        user: User name to show before the file.
    """
    if sys.stderr.isatty():
        return password
    return f"{f'{user}:' if user else ''}<the text in {file}>"
